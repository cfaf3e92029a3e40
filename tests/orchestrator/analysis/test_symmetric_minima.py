"""Copies of minima are recognised from the weights in the store."""

import torch

from orchestrator.analysis.reduction import reduce_run
from orchestrator.analysis.symmetric_minima import classes_of_copies
from tests.helpers.made_run import made_run
from workers.problems.networks import build
from workers.storage.schema import MinimumRecord
from workers.tasks.specs import NetworkSpec

HIDDEN = 3


def state(seed):
    spec = NetworkSpec.parse({"name": "fc", "hidden": [HIDDEN]})
    return build(spec, (1, 8, 8), 10, seed).state_dict()


def renumbered(weights, order):
    """The same function with its hidden units in another order."""
    first, bias, last, output = weights
    return {
        first: weights[first][order],
        bias: weights[bias][order],
        last: weights[last][:, order],
        output: weights[output],
    }


def run_of(tmp_path, states, losses):
    """A run whose minima have these weights and losses, with all paths at a height of 1."""
    made = made_run(tmp_path, len(states), network={"name": "fc", "hidden": [HIDDEN]})
    made.minima(dict(enumerate(losses)), states=states)
    pairs = [(i, j) for i in range(len(states)) for j in range(i + 1, len(states))]
    made.paths(dict.fromkeys(pairs, 1.0), losses)
    return made


def test_copies_of_a_minimum_of_loss_zero_are_recognised(tmp_path):
    """After a polish their losses are rounding errors, which differ by any factor."""
    one, other = state(0), state(1)
    made = run_of(tmp_path, [one, other, renumbered(one, [2, 0, 1])], [3e-26, 0.2, 1e-28])
    minima = {record.index: record for record in made.store.records(MinimumRecord)}
    assert classes_of_copies(made.plan, made.store, minima) == {0: 0, 1: 1, 2: 0}


def test_a_renumbered_minimum_is_a_copy(tmp_path):
    """Its bar against the original is one of the parameter space and not one of the quotient."""
    first, other = state(0), state(1)
    states = [first, renumbered(first, [2, 0, 1]), other, other]
    made = run_of(tmp_path, states, [0.1, 0.1 + 1e-9, 0.1, 0.3])
    landscape = reduce_run(made.plan, made.store)
    assert landscape.copies.classes == (
        (0, 1),
        (2,),
        (3,),
    )  # 3 has another loss: it is not compared
    assert len(landscape.barcodes["elder"].finite) == 3
    assert len(landscape.copies.quotient.barcode.finite) == 2
    assert landscape.to_json()["quotient"]["classes"] == [[0, 1], [2], [3]]


def test_minima_of_different_losses_are_no_copies(tmp_path):
    """No weights are read for it: they may be missing."""
    made = run_of(tmp_path, [state(0), state(1)], [0.1, 0.2])
    minima = dict(enumerate(sorted(made.store.records(MinimumRecord), key=lambda r: r.index)))
    for file in (made.folder / "minima").iterdir():
        file.unlink()
    assert classes_of_copies(made.plan, made.store, minima) == {0: 0, 1: 1}


def test_what_cannot_be_recognised_is_not_claimed(tmp_path):
    """With weights of another network there is no quotient, rather than a wrong one."""
    other = {"weight": torch.zeros(2, 3)}
    made = run_of(tmp_path, [other, other], [0.1, 0.1])
    landscape = reduce_run(made.plan, made.store)
    assert landscape.copies is None
    assert "quotient" not in landscape.to_json()
