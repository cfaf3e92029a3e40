"""From the records of a store to a landscape, on runs filled by hand."""

import json
import math
from dataclasses import replace

import torch

from orchestrator.analysis.reduction import reduce_run
from orchestrator.planning.plan import Plan
from orchestrator.planning.saddle_refinement import saddle_task
from orchestrator.run_file.reading import parse
from tests.helpers.made_run import (
    HEIGHTS,
    LOSSES,
    TRIANGLES,
    complete_run,
    made_run,
    run_with_loops,
)
from workers.storage.schema import UNMEASURED, PairRecord, SaddleRecord


def plan_with(plan, **run_file):
    """The plan of the same run with other keys in its run file."""
    return Plan(parse({**plan.run.model_dump(by_alias=True), **run_file}), plan.identity)


def test_heights_of_the_paper_are_read_from_the_same_paths(tmp_path):
    """``reduce.heights`` is a choice of reading: no key changes, every bar falls by 0.01, without ±."""
    made = complete_run(tmp_path)
    paper = plan_with(made.plan, reduce={"heights": "paper"})
    assert list(paper.path_keys()) == list(made.plan.path_keys())
    adaptive, on_the_grid = (reduce_run(plan, made.store) for plan in (made.plan, paper))
    assert on_the_grid.complete
    for dense, grid in zip(
        adaptive.barcodes["elder"].finite, on_the_grid.barcodes["elder"].finite, strict=True
    ):
        assert (dense.minimum, dense.saddle) == (grid.minimum, grid.saddle)
        assert grid.death == dense.death - 1e-2
    assert on_the_grid.to_json()["sampling_error"]["epsilon"] is None
    assert adaptive.to_json()["sampling_error"]["epsilon"] > 0


def test_a_path_without_a_finite_height_connects_nothing(tmp_path):
    """It does not abort the reduction, is reported as failed, and leaves the other bars as they are."""
    made = made_run(tmp_path, len(LOSSES))
    made.minima(dict(enumerate(LOSSES)))
    made.paths({**HEIGHTS, (0, 3): math.nan, (1, 2): math.inf}, LOSSES)
    landscape = reduce_run(made.plan, made.store)
    assert not landscape.complete
    assert [failure.what for failure in landscape.failures] == ["path 0–3", "path 1–2"]
    assert (landscape.counts.done, landscape.counts.failed) == (4, 2)
    bars = {bar.minimum: (bar.death, bar.saddle) for bar in landscape.barcodes["elder"].finite}
    assert bars == {3: (1.0, (0, 1)), 1: (0.7, (1, 3)), 2: (0.9, (0, 2))}
    assert json.loads(json.dumps(landscape.to_json(), allow_nan=False))["complete"] is False


def test_a_failed_path_through_others_is_named(tmp_path):
    """With `start: through` keys of later paths depend on earlier ones; their failures are named, too."""
    paths = {"epochs": 2, "points": 5, "start": "through"}
    made = made_run(tmp_path, len(LOSSES), paths=paths)
    made.minima(dict(enumerate(LOSSES)))
    made.paths(HEIGHTS, LOSSES)
    heights = {record.key: record.height for record in made.store.records(PairRecord)}
    rounds = made.plan.rounds(dict(enumerate(LOSSES)))
    rounds.advance(
        lambda request: heights.get(made.plan.request_key(request, rounds)), lambda request: False
    )
    later = next(request for request in rounds.waiting if request.via)
    failure = {"what": "path through others", "kind": "bug", "reason": "for a test"}
    made.store.publish_failure(made.plan.request_key(later, rounds), failure, term=1)
    made.store.publish_failure("f" * 32, failure | {"what": "of another plan"}, term=1)
    landscape = reduce_run(made.plan, made.store)
    assert [failed.what for failed in landscape.failures] == ["path through others"]


def test_a_minimum_without_a_finite_loss_is_left_out(tmp_path):
    """The barcode of the other minima is given, and the missing one is named."""
    made = made_run(tmp_path, len(LOSSES))
    made.minima(dict(enumerate((*LOSSES[:3], math.nan))))
    made.paths({pair: h for pair, h in HEIGHTS.items() if 3 not in pair}, LOSSES)
    landscape = reduce_run(made.plan, made.store)
    assert [failure.what for failure in landscape.failures] == ["minimum 3"]
    assert [bar.minimum for bar in landscape.barcodes["elder"].bars] == [0, 1, 2]
    assert not landscape.complete


def test_a_triangle_without_a_finite_maximum_fills_nothing(tmp_path):
    """The loop that it would fill lives on to the next triangle that fills it, at 1.6."""
    made = complete_run(tmp_path, reduce={"max_index": 1})
    made.triangles({**TRIANGLES, (0, 1, 3): math.nan}, HEIGHTS)
    (first, second) = reduce_run(made.plan, made.store).homology.barcodes[1].bars
    assert (first.death, first.killed) == (1.6, (0, 2, 3))
    assert (second.death, second.killed) == (1.5, (1, 2, 3))


def test_all_indices_of_the_simplices_are_of_one_complex(tmp_path):
    """Where the edges on the lattice are higher than the paths, so is index 0 of their complex.

    The barcode of minima keeps the heights of the paths; the JSON says which is which.
    """
    made = complete_run(tmp_path, reduce={"max_index": 1})
    lattice = {pair: height + 0.1 for pair, height in HEIGHTS.items()}
    made.triangles(dict.fromkeys([(0, 1, 2), (0, 1, 3), (1, 2, 3), (0, 2, 3)], 1.4), lattice)
    landscape = reduce_run(made.plan, made.store)
    of_paths = {bar.minimum: bar.death for bar in landscape.barcodes["elder"].finite}
    of_lattice = {bar.born[0]: bar.death for bar in landscape.homology.index_0.finite}
    assert of_lattice == {minimum: death + 0.1 for minimum, death in of_paths.items()}
    births = sorted(bar.birth for bar in landscape.homology.barcodes[1].bars)
    assert births == sorted(lattice.values())[3:]  # the other edges close loops
    higher = landscape.to_json()["higher_index"]
    assert higher["to_score_of_index_0"] > landscape.to_json()["to_score"]["0"]["elder"]
    assert "lattice" in higher["edges"]


def saddle_record(made, pair, loss, joins, verdict="saddle", index=1):
    i, j = pair
    key = saddle_task(made.plan, pair, made.plan.pair_key(pair)).key
    return SaddleRecord(
        key=key,
        path=made.plan.pair_key(pair),
        i=i,
        j=j,
        loss=loss,
        peak_loss=loss,
        gradient_norm=1e-9,
        gradient_tolerance=1e-8,
        eigenvalues=(-0.5, 0.25),
        eigenvalue_bounds=(1e-3, 1e-3),
        index=index,
        verdict=verdict,
        reason="",
        joins=joins,
        **UNMEASURED,
        gradients=40,
        products=60,
        object=made.store.publish_saddle(key, {"point": torch.zeros(1, 2)}),
    )


def test_records_of_saddles_are_read_as_what_bars_end_at(tmp_path):
    """By the key of the path; a descent to a minimum of another run joins nothing here."""
    made = complete_run(tmp_path)
    keys = made.plan.minimum_keys
    made.store.publish_records(
        [
            saddle_record(made, (1, 3), 0.7, (keys[1], keys[3])),
            saddle_record(made, (1, 2), 0.5, (keys[1], "")),
            saddle_record(made, (0, 3), 0.8, (), "kink"),
        ],
        term=1,
    )
    landscape = reduce_run(made.plan, made.store)
    assert landscape.complete
    kinds = {end.minimum: end.kind.value for end in landscape.verified.ends}
    assert kinds == {1: "saddle", 2: "attained", 3: "kink"}
    assert landscape.peaks[1, 3].ends == (1, 3) and landscape.peaks[1, 2].ends is None
    stored = made.store.records(SaddleRecord)
    assert {record.gradients for record in stored} == {40}
    assert made.store.read_saddle(stored[0].object)["point"].shape == (1, 2)


def test_a_saddle_of_a_higher_index_ends_no_bar(tmp_path):
    """It is no pass between two minima; the verdict of its record has the index."""
    made = complete_run(tmp_path)
    record = saddle_record(made, (1, 3), 0.7, (), verdict="saddle of index 2", index=2)
    made.store.publish_records([record], term=1)
    landscape = reduce_run(made.plan, made.store)
    (end,) = [end for end in landscape.verified.ends if end.minimum == 1]
    assert end.kind.value == "attained" and "saddle of index 2" in end.reason
    assert not landscape.verified.network.transitions


def test_bars_of_no_length_are_counted_beside_the_scores(tmp_path):
    """Index 0 lists them, index 1 counts them only: the triangle (0, 1, 2) fills its loop at once."""
    counts = reduce_run(*_plan_and_store(run_with_loops(tmp_path))).to_json()["bars_of_no_length"]
    assert counts == {"0": {"elder": 0, "direct": 0}, "1": 1}


def _plan_and_store(made):
    return made.plan, made.store


def test_a_path_led_over_saddles_is_the_pass_of_its_pair(tmp_path):
    """Its lower height, profile and points count in barcodes, tables and figures; a path that is not lower
    changes nothing, and with the heights of the paper none does."""
    made = complete_run(tmp_path)
    keys = made.plan.minimum_keys
    before = reduce_run(made.plan, made.store)
    over = replace(
        saddle_record(made, (1, 3), 0.68, (keys[1], keys[3])),
        ended="verified",
        height=0.68,
        height_high=0.6801,
        argmax_position=0.5,
        positions=(0.0, 0.5, 1.0),
        losses=(before.losses[1], 0.68, before.losses[3]),
    )
    higher = replace(saddle_record(made, (1, 2), 0.9, ()), ended="budget", height=0.9)
    made.store.publish_records([over, higher], term=1)
    landscape = reduce_run(made.plan, made.store)
    record = landscape.passes[1, 3]
    assert (record.height, record.object, record.outcome) == (0.68, over.object, "converged")
    assert landscape.passes[1, 2] == before.passes[1, 2]
    (bar,) = [bar for bar in landscape.barcodes["elder"].finite if bar.minimum == 1]
    assert bar.death == 0.68 and landscape.verified.ends[1].kind.value == "saddle"
    run = made.plan.run.model_copy(
        update={"reduce": made.plan.run.reduce.model_copy(update={"heights": "paper"})}
    )
    paper = reduce_run(replace(made.plan, run=run), made.store)
    assert paper.passes[1, 3].height == before.passes[1, 3].grid_height


def test_a_run_is_complete_once_its_saddles_are(tmp_path):
    """A saddle that the run file asks for is counted as missing until its record is there, and a failed one
    is listed as a failure."""
    made = complete_run(tmp_path, saddles={"refine": "bars"})
    landscape = reduce_run(made.plan, made.store)
    assert not landscape.complete
    assert (landscape.saddles_done, landscape.saddles_expected) == (0, 3)
    pairs = [bar.saddle for bar in landscape.barcodes["elder"].finite]
    made.store.publish_records(
        [saddle_record(made, pair, landscape.heights[pair], ()) for pair in pairs[:2]], term=1
    )
    assert reduce_run(made.plan, made.store).saddles_done == 2
    last = saddle_task(made.plan, pairs[2], made.plan.pair_key(pairs[2]))
    failure = {"what": last.title, "kind": "bug", "reason": "it broke"}
    made.store.publish_failure(last.key, failure, term=1)
    landscape = reduce_run(made.plan, made.store)
    assert [failed.what for failed in landscape.failures] == [last.title]
    made.store.clear_failures()
    made.store.publish_records([saddle_record(made, pairs[2], 0.7, ())], term=1)
    assert reduce_run(made.plan, made.store).complete
