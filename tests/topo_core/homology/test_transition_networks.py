"""Transition networks of small networks whose critical points are all known, found by other code.

`transition_networks.json` has the minima and saddles of index 1 of three losses, as numbers: classes
under the symmetries of the network, all copies, and the barcodes that follow. 1-2-1 tanh on 101 points
(N1), XOR with 2-2-2 tanh (N3) and iris with 4-3-3 tanh (N4), each with a ridge. They were found by
trust-region Newton, eigenvector following and union-find, and checked by independent repeats.
"""

import json
import math
from collections import Counter
from pathlib import Path

import pytest

from topo_core.homology.barcodes import barcode
from topo_core.homology.quotients import quotient_barcode
from topo_core.homology.transition_networks import Transition, TransitionNetwork

TRUTHS = json.loads((Path(__file__).parent / "transition_networks.json").read_text())


def network_of_classes(truth):
    return TransitionNetwork(
        dict(enumerate(truth["minima"])),
        [
            Transition(number, loss, tuple(ends))
            for number, (loss, ends) in enumerate(
                zip(truth["saddles"], truth["connects"], strict=True)
            )
        ],
    )


def network_of_copies(truth):
    return TransitionNetwork(
        {copy: truth["minima"][class_] for copy, class_ in enumerate(truth["copies"])},
        [
            Transition((number, i, j), truth["saddles"][number], (i, j))
            for number, i, j in truth["copied_saddles"]
        ],
    )


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_classes_have_the_barcode_of_the_quotient(name):
    """One bar for each class, ending at the saddle that the other code names."""
    network = network_of_classes(TRUTHS[name])
    bars = [
        [bar.birth, bar.death if bar in network.barcode.finite else None]
        for bar in network.barcode.bars
    ]
    assert bars == TRUTHS[name]["barcode"]


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_copies_have_bars_against_each_other(name):
    """On the parameter space every copy has a bar: births, deaths and multiplicities."""
    network = network_of_copies(TRUTHS[name])
    counted = Counter((bar.birth, round(bar.death, 11)) for bar in network.barcode.bars)
    expected = {
        (birth, math.inf if death is None else round(death, 11)): multiplicity
        for birth, death, multiplicity in TRUTHS[name]["barcode_of_all_copies"]
    }
    assert dict(counted) == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(TRUTHS))
def test_the_quotient_of_all_copies_is_the_barcode_of_classes(name):
    """With copies joined into classes, the network of all copies has the barcode of the quotient."""
    truth, network = TRUTHS[name], network_of_copies(TRUTHS[name])
    heights = {pair: transition.loss for pair, transition in network.lowest.items()}
    classes = dict(enumerate(truth["copies"]))
    quotient = quotient_barcode(network.losses, heights, classes)
    of_classes = network_of_classes(truth).barcode
    assert [(bar.birth, bar.death) for bar in quotient.barcode.bars] == [
        (bar.birth, bar.death) for bar in of_classes.bars
    ]
    assert sorted(map(len, quotient.members.values())) == sorted(Counter(truth["copies"]).values())
    for bar in quotient.barcode.finite:
        assert heights[min(bar.saddle), max(bar.saddle)] == bar.death
        assert classes[bar.saddle[0]] != classes[bar.saddle[1]]


def test_saddles_that_connect_nothing():
    """A saddle whose descents meet again, and one whose loss is not a number, are no passes."""
    loop, broken = Transition("a", 1.0, (0, 0)), Transition("b", math.nan, (0, 1))
    pass_, higher = Transition("c", 3.0, (1, 0)), Transition("d", 4.0, (0, 1))
    network = TransitionNetwork({0: 0.0, 1: 0.5}, [loop, broken, higher, pass_])
    assert network.lowest == {(0, 1): pass_}
    assert [(bar.death, bar.saddle) for bar in network.barcode.finite] == [(3.0, (0, 1))]


def test_a_class_of_one_is_a_minimum():
    """Where no two minima are copies, the quotient is the barcode itself."""
    losses, heights = {0: 0.0, 1: 0.5, 2: 0.7}, {(0, 1): 2.0, (1, 2): 1.0}
    quotient = quotient_barcode(losses, heights, {0: "a", 1: "b", 2: "c"})
    assert quotient.barcode == barcode(losses, heights)


def test_a_minimum_without_a_class_is_refused():
    """It would silently be left out of the quotient."""
    with pytest.raises(ValueError, match="minimum 1 has no class"):
        quotient_barcode({0: 0.0, 1: 1.0}, {}, {0: "a"})
