"""Rounds of paths: what may be left out, and that it may."""

import itertools
import math

import numpy as np
import pytest

from orchestrator.pair_rules.path_requests import PathRequest
from orchestrator.pair_rules.rounds import Rounds, next_round
from orchestrator.run_file.groups import Pairs
from topo_core import barcode, bottleneck

LAZY = Pairs(rule="lazy")


def synthetic(seed, n, kind):
    """Losses and the heights of all pairs, none below its floor.

    `connected`: passes a little above their floors, as in wide networks. `clusters`: groups of minima
    with high passes between them. `rough`: every height on its own.
    """
    draw = np.random.default_rng(seed)
    losses = draw.uniform(0.05, 0.06, n)
    floors = np.maximum.outer(losses, losses)
    if kind == "connected":
        rise = draw.exponential(5e-4, (n, n))
    elif kind == "clusters":
        group = draw.integers(0, 4, n)
        apart = np.not_equal.outer(group, group)
        rise = draw.exponential(5e-4, (n, n)) + apart * draw.uniform(0.01, 0.05, (n, n))
    else:
        rise = draw.uniform(0.0, 0.05, (n, n))
    heights = floors + np.triu(rise, 1) + np.triu(rise, 1).T
    return losses, heights


def run_rounds(rule, losses, height, *, rungs=1, failed=frozenset(), through=False):
    """Rounds until the rule is satisfied; `height` gives the result of a request."""
    rounds = Rounds(
        rule.chosen, rule, dict(enumerate(losses)), len(losses), rungs, 0, through=through
    )
    while rounds.waiting:
        found = {request: height(request) for request in rounds.waiting if request not in failed}
        rounds.advance(found.get, failed.__contains__)
    return rounds


def never(request):
    return False


def run_lazily(rule, losses, heights, **others):
    """Every path with its true height."""
    return run_rounds(rule, losses, lambda request: heights[request.pair], **others)


def check_certificate(seed, n, kind, tolerance):
    """The barcode of the paths that were run is within the tolerance of that of all; their number."""
    losses, heights = synthetic(seed, n, kind)
    where = run_lazily(Pairs(rule="lazy", tolerance=tolerance), losses, heights)
    assert not where.known.undecided(tolerance).any()
    np.fill_diagonal(heights, np.inf)
    lazy, whole = barcode(losses.tolist(), where.known.best), barcode(losses.tolist(), heights)
    assert bottleneck(lazy, whole) <= tolerance
    for bar, true in zip(lazy.finite, whole.finite, strict=True):
        assert true.death <= bar.death <= true.death + tolerance
    return len(where.requests)


@pytest.mark.parametrize("kind", ["connected", "clusters", "rough"])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_left_out_moves_no_bar_by_more_than_the_tolerance(kind, seed):
    """Against the barcode of all pairs, bar by bar and by the bottleneck distance."""
    check_certificate(seed, 40, kind, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["connected", "clusters", "rough"])
def test_the_certificate_is_never_wrong(kind):
    """200 landscapes of 300 minima whose heights are known."""
    for seed in range(200):
        check_certificate(seed, 300, kind, 3e-3)


def test_connected_minima_need_a_star():
    """Where passes are within the tolerance of their floors, n - 1 of n (n - 1) / 2 pairs are run."""
    losses, heights = synthetic(0, 100, "connected")
    where = run_lazily(Pairs(rule="lazy", tolerance=0.02), losses, heights)
    assert len(where.requests) == 99


@pytest.mark.parametrize("budget", [3, 30, 60])
def test_a_budget_is_kept_and_the_bounds_hold(budget):
    """With too few paths no bar lies outside of what is said about it."""
    losses, heights = synthetic(1, 20, "rough")
    where = run_lazily(Pairs(rule="lazy", tolerance=1e-4, max_pairs=budget), losses, heights)
    assert len(where.requests) == budget
    known = where.known
    undecided = known.undecided(1e-4)
    assert undecided.any()
    low = np.where(undecided | undecided.T, known.floors, known.best)
    np.fill_diagonal(heights, np.inf)
    np.fill_diagonal(low, np.inf)
    bounds = [barcode(losses.tolist(), h) for h in (low, heights, known.best)]
    for least, true, most in zip(*(b.bars for b in bounds), strict=True):
        assert least.death - 1e-4 <= true.death <= most.death


def test_rounds_do_not_depend_on_what_else_is_known():
    """Results of pairs that no round asked for change nothing: a grown run chooses as a new one."""
    losses, heights = synthetic(2, 15, "clusters")
    rule = Pairs(rule="lazy", tolerance=1e-3)
    alone = run_lazily(rule, losses, heights)
    everything = {
        PathRequest(pair, 0): heights[pair]
        for pair in itertools.combinations(range(len(losses)), 2)
    }
    rounds = Rounds(rule.chosen, rule, dict(enumerate(losses)), 15, 1, 0)
    rounds.advance(everything.get, never)
    assert rounds.requests == alone.requests
    assert not rounds.waiting


def test_a_round_that_is_not_complete_is_waited_for():
    """Results come in any order and in any portions; what is ordered stays the same."""
    losses, heights = synthetic(2, 15, "clusters")
    rule = Pairs(rule="lazy", tolerance=1e-3)
    alone = run_lazily(rule, losses, heights)
    draw = np.random.default_rng(0)
    rounds = Rounds(rule.chosen, rule, dict(enumerate(losses)), 15, 1, 0)
    while rounds.waiting:
        some = [request for request in rounds.waiting if draw.random() < 0.3]
        rounds.advance({request: heights[request.pair] for request in some}.get, never)
    assert rounds.requests == alone.requests


def test_a_failed_path_is_not_asked_for_again_and_proves_nothing():
    """Its pair stays undecided, and the others go on."""
    losses, heights = synthetic(3, 8, "connected")
    rule = Pairs(rule="lazy", tolerance=0.05)
    lost = Rounds(rule.chosen, rule, dict(enumerate(losses)), 8, 1, 0).waiting[2]
    rounds = run_lazily(rule, losses, heights, failed=frozenset({lost}))
    assert rounds.known.failed[lost.pair]
    assert rounds.requests.count(lost) == 1
    assert barcode(losses.tolist(), rounds.known.best).complete


def test_a_minimum_that_is_not_there_is_left_out():
    """Only pairs of minima with a loss are asked for."""
    requests = Rounds(LAZY.chosen, LAZY, {0: 0.1, 2: 0.3, 3: 0.2}, 4, 1, 0).waiting
    assert [request.pair for request in requests] == [(0, 3), (0, 2)]


def rung_heights(losses, heights, rungs, seed):
    """Heights that fall from rung to rung, by a share of the rise that differs from pair to pair."""
    draw = np.random.default_rng(seed)
    floors = np.maximum.outer(losses, losses)
    levels = [heights]
    for _ in range(rungs - 1):
        share = draw.uniform(1.2, 2.0, heights.shape)
        share = np.triu(share, 1) + np.triu(share, 1).T + np.eye(len(losses))
        levels.insert(0, floors + (levels[0] - floors) * share)
    return levels


@pytest.mark.parametrize("seed", range(20))
def test_rungs_find_the_bars_of_whole_paths(seed):
    """Bars are within the tolerance of those of all paths at full length, and many stop at a lower rung."""
    losses, heights = synthetic(seed, 12, "rough")
    levels = rung_heights(losses, heights, 2, seed)
    rule = Pairs(rule="all", rungs=(10,), tolerance=1e-4)
    where = run_rounds(rule, losses, lambda o: levels[o.rung][o.pair], rungs=2)
    np.fill_diagonal(heights, np.inf)
    whole = barcode(losses.tolist(), heights)
    assert bottleneck(barcode(losses.tolist(), where.known.best), whole) <= rule.tolerance
    at_the_top = sum(request.rung == 1 for request in where.requests)
    assert 11 <= at_the_top < 66 * 0.8


def test_what_is_left_on_a_lower_rung_moves_a_bar_in_one_run_of_twenty():
    """Where paths fall by very different shares, bars are off by more than the tolerance in at most 5 %."""
    off = 0
    for seed in range(100):
        losses, heights = synthetic(seed, 12, "rough")
        fallen = np.exp(np.random.default_rng(seed).normal(-0.5, 0.5, heights.shape))
        fallen = 1 + np.triu(fallen, 1) + np.triu(fallen, 1).T
        floors = np.maximum.outer(losses, losses)
        levels = [floors + (heights - floors) * fallen, heights]
        rule = Pairs(rule="all", rungs=(10,), tolerance=1e-4)
        where = run_rounds(rule, losses, lambda o, at=levels: at[o.rung][o.pair], rungs=2)
        np.fill_diagonal(heights, np.inf)
        found, whole = (barcode(losses.tolist(), h) for h in (where.known.best, heights))
        off += bottleneck(found, whole) > rule.tolerance
    assert off <= 5


def test_every_bar_is_held_up_by_a_whole_path():
    """At the end the tree consists of paths of the last rung, and of some that cannot fall further."""
    losses, heights = synthetic(7, 10, "clusters")
    levels = rung_heights(losses, heights, 3, 7)
    rule = Pairs(rule="lazy", rungs=(5, 20), tolerance=1e-3)
    where = run_rounds(rule, losses, lambda o: levels[o.rung][o.pair], rungs=3)
    known = where.known
    for pair in known.tree().edges:
        assert known.rung[pair] == 2 or known.best[pair] <= known.floors[pair] + 1e-3
    assert any(known.rung[pair] == 2 for pair in known.tree().edges)
    for request in where.requests:  # nobody skips a rung
        assert request.rung == 0 or math.isfinite(known.heights[request.rung - 1][request.pair])


def test_a_satisfied_rule_asks_for_nothing():
    """Asked again, it stays satisfied."""
    losses, heights = synthetic(4, 10, "connected")
    rule = Pairs(rule="lazy", tolerance=0.05)
    where = run_lazily(rule, losses, heights)
    assert next_round(rule.chosen, rule, where.known, 0) == []


@pytest.mark.parametrize("rule", ["all", "lazy", "random"])
def test_later_paths_start_from_finished_ones(rule):
    """Each route leads from the first minimum to the second over paths ordered in earlier rounds."""
    losses, heights = synthetic(5, 14, "rough")
    chosen = Pairs(rule=rule, tolerance=1e-3, rungs=(5,), per_minimum=4)
    rounds = run_rounds(chosen, losses, lambda o: heights[o.pair], rungs=2, through=True)
    plain = run_rounds(chosen, losses, lambda o: heights[o.pair], rungs=2)
    if rule != "lazy":
        assert {o.pair for o in rounds.requests} == {o.pair for o in plain.requests}
    done = set()
    for request in rounds.requests:
        here = request.pair[0]
        for (i, j), rung in request.via:
            assert ((i, j), rung) in done
            assert here in (i, j)
            here = j if here == i else i
        assert not request.via or here == request.pair[1]
        done.add((request.pair, request.rung))
        if request.rung:
            assert request.via == rounds.issued[request.pair, 0].via
    starts = [request for request in rounds.requests if not request.via and request.rung == 0]
    assert len(starts) == 13
    assert len(rounds.requests) > 26
