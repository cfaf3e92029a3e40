"""A row of each benchmark at its smallest, in the default suite and without a clock: they cannot rot.

`make benchmark` runs them at full size. That of many pairs has its short cut beside it.
"""

import itertools
import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.benchmarks import (
    agreement,
    barriers,
    gaussians,
    heights,
    lazy,
    one_dimensional,
    one_layer_grid,
    pairs_needed,
    test_barcode_speed,
    widths,
    workloads,
)
from tests.benchmarks.network_barcodes import Minima, Network, polished
from tests.benchmarks.quotient_search import Pass, QuotientSearch
from topo_core import PathSettings, Verdict
from topo_core.objectives.curvature import full_gradients, hessian_vector_products
from topo_core.objectives.losses.squared_error import SquaredError
from topo_core.reference_landscapes.small_networks import tanh_regression


def test_a_workload_of_speed():
    """The literal loop and ours do the same work: losses at the same points agree, points move."""
    work = workloads.Workload("fc", None)
    theirs, ours = work.dense_literal(), work.dense_ours()
    assert theirs.shape == ours.shape
    assert torch.allclose(theirs.double(), ours.double(), rtol=1e-4)
    begun = work.points.clone()
    work.ours()
    work.literal()
    assert work.state is not None and work.state.epoch == 1
    for after in (work.state.points, torch.stack(work.path)):
        moved = (after - begun).norm(dim=1)
        assert moved[0] == moved[-1] == 0 and (moved[1:-1] > 0).all()


def test_a_row_of_agreement(monkeypatch):
    """Ten steps of `paper` on a network have the literal loop's gradients and end where its steps do."""
    monkeypatch.setattr(agreement, "STEPS", 10)
    assert float(agreement.errors("fc", "linear", torch.float64).max()) < 1e-12
    assert agreement.distance("fc", "linear", torch.float64) < 1e-12


def test_a_table_of_barriers(capsys):
    """Every method joins a pair of polished minima of a small loss, and the ratio of medians is printed."""
    ratios = barriers.main({"pairs": "1", "budgets": "150", "examples": "30"})
    assert 0 < ratios["digits", 150] < math.inf
    said = capsys.readouterr().out
    assert all(f"| {method} |" in said for method in barriers.METHODS)


def test_rows_of_barriers_are_kept(tmp_path, capsys):
    """A second call measures nothing again; heights of known passes are counted."""
    options = {
        "landscapes": "truth",
        "pairs": "1",
        "methods": "ours",
        "budgets": "1700",
        "into": str(tmp_path / "rows.jsonl"),
    }
    barriers.main(options)
    rows = (tmp_path / "rows.jsonl").read_text()
    assert rows.count("\n") == 1
    barriers.main(options)
    assert (tmp_path / "rows.jsonl").read_text() == rows
    assert capsys.readouterr().out.count("| 1 of 1 |") == 2


@pytest.mark.slow
def test_converged_paths_of_known_networks_do_not_fall():
    """Continued with five times the gradients on twice the points, no path that says CONVERGED falls."""
    converged, fell = barriers.audit({"landscapes": "truth"})
    assert converged >= 6 and fell == 0


@pytest.mark.slow
def test_climbs_on_the_quotient_meet_the_known_barcode():
    """From one minimum of each class, climbs alone find the barcode that independent code has found."""
    known = tanh_regression()
    inputs, targets = one_dimensional.data()
    network = Network.of_squared_error(inputs, targets, (1, 2, 1), 1e-3)
    found = Minima(Counter(), known.minima, tuple(known.losses.tolist()), (1,) * len(known.minima))
    search = QuotientSearch.of(network, found, float(targets.var(correction=0)))
    search.climb_all(seed=0)
    bars = [(bar.birth, bar.death) for bar in search.barcode().bars]
    assert bars == [pytest.approx(bar, abs=1e-8) for bar in known.barcode]
    assert all(search.is_verified(bar.saddle) for bar in search.barcode().finite)


def test_one_function_of_all_parameters_is_the_loss_of_the_network():
    """The function in place of a network has the network's losses, gradients and products."""
    inputs, targets = one_dimensional.data()
    sizes = (1, 2, 3, 1)
    module = Network.of(inputs, targets, sizes, nn.Tanh, SquaredError(), 1e-3)
    function = Network.of_squared_error(inputs, targets, sizes, 1e-3)
    points, vectors = torch.randn(2, 4, module.dimension, dtype=torch.float64).unbind()
    for evaluate in (
        lambda loss: loss.losses(points),
        lambda loss: full_gradients(loss, points)[1],
        lambda loss: hessian_vector_products(loss, points, vectors),
    ):
        assert torch.allclose(evaluate(module.objective), evaluate(function.objective), rtol=1e-12)


def test_a_row_of_the_one_dimensional_example(monkeypatch, capsys, tmp_path):
    """Minima are proved, open bars get upper bounds, and a stopped search continues to the same ones."""
    monkeypatch.setattr(QuotientSearch, "_climb", lambda *_: None)
    monkeypatch.setattr(QuotientSearch, "join", lambda *_, **__: None)
    monkeypatch.setattr(one_dimensional, "PATHS", PathSettings(start="line", epochs=2))
    options = {"networks": "2", "ridges": "1e-3", "starts": "5"}
    row = one_dimensional.main(options)["2", 1e-3]
    assert sum(row.starts.hits) == 5 and row.complete
    assert row.ends == [] and len(row.bars) == 2
    assert row.bounds == row.with_paths and row.bounds[0][0] == row.bars[1][0] < row.bounds[0][1]
    printed = capsys.readouterr().out
    assert "| 2 | 0.001 | 5 minimum |" in printed and "left open" in printed

    save, saves = one_dimensional.Measurement._save, itertools.count()

    def stopped(measurement):
        save(measurement)
        if next(saves) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(one_dimensional.Measurement, "_save", stopped)
    options |= {"into": str(tmp_path), "again": "1"}
    with pytest.raises(KeyboardInterrupt):
        one_dimensional.main(options)
    assert one_dimensional.main(options)["2", 1e-3].bounds == row.bounds
    assert "0 new classes of saddles, 0 of minima" in capsys.readouterr().out


@pytest.mark.slow
def test_a_search_for_saddles_continues_where_it_was_stopped(monkeypatch, tmp_path):
    """Stopped within the climbs and within the joins, the one-dimensional example finds the same bars."""
    options = {"networks": "2", "ridges": "1e-3", "starts": "5", "budget": "500"}
    row = one_dimensional.main(options)["2", 1e-3]
    assert all(birth <= death for birth, death in row.bars)
    save, saves = one_dimensional.Measurement._save, itertools.count()

    def stopped(measurement):
        save(measurement)
        if next(saves) in (5, 8):
            raise KeyboardInterrupt

    monkeypatch.setattr(one_dimensional.Measurement, "_save", stopped)
    options["into"] = str(tmp_path)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            one_dimensional.main(options)
    continued = one_dimensional.main(options)["2", 1e-3]
    assert (continued.bars, continued.saddles) == (row.bars, row.saddles)


def test_points_that_are_no_minima_are_joined_by_paths(monkeypatch):
    """Without minima the lowest polished points are joined, and their verdicts are reported."""
    monkeypatch.setattr(one_dimensional, "PATHS", PathSettings(start="line", epochs=2))
    point = polished(Network.of_squared_error(*one_dimensional.data(), (1, 2, 1), 1e-3), 0, seed=0)
    starts = itertools.cycle(
        [
            replace(point, verdict=Verdict.UNBOUNDED),
            replace(point, verdict=Verdict.FLAT, point=point.point + 1, loss=point.loss + 0.1),
        ]
    )
    monkeypatch.setattr(one_dimensional, "polished", lambda *_, **__: next(starts))
    row = one_dimensional.main({"networks": "2", "ridges": "0", "starts": "2"})["2", 0.0]
    assert set(row.losses) == {Verdict.UNBOUNDED, Verdict.FLAT}
    assert len(row.bars) == 2 and len(row.ends) == 1 and row.verified == 0


def test_the_grid_of_one_layer_finds_the_known_minimum():
    """With a ridge the lowest minimum of a coarse grid is that of the known barcode, to its accuracy."""
    lowest, *others = one_layer_grid.bars(1e-3, 16, 24)
    assert lowest[0] == pytest.approx(float(tanh_regression().losses.min()), abs=0.02)
    assert all(birth <= death for birth, death, _ in others)


def test_a_bar_ends_at_a_valley_without_a_minimum():
    """The bar of a minimum that is connected to lower points ends, also where those are no minimum."""
    search = QuotientSearch(
        Network.of_squared_error(*one_dimensional.data(), (1, 2, 1), 0.0),
        points=[torch.zeros(7), torch.ones(7)],
        losses=[0.1, 0.2],
        extent=1.0,
        passes=[Pass(torch.zeros(7), 0.5, (0, 1)), Pass(torch.ones(7), 0.3, (1, -1))],
        valleys=[0.05],
    )
    assert [(bar.birth, bar.death) for bar in search.barcode().bars] == [(0.1, 0.5), (0.2, 0.3)]


def test_a_row_of_widths(monkeypatch, capsys, tmp_path):
    """Gaps belong to proved minima, no bar exceeds the largest gap, and kept rows are not measured again."""
    monkeypatch.setattr(widths, "PATHS", PathSettings(start="bezier", bezier_epochs=20, epochs=5))
    options = {"data": "moons", "widths": "2", "seeds": "1", "cases": "tanh, ridge"}
    options["into"] = str(tmp_path / "rows.jsonl")
    [row] = widths.main(options)
    assert row.verdicts[Verdict.MINIMUM.name] == widths.MINIMA
    assert 0 <= row.bar <= row.gap
    assert "| moons | tanh, ridge | 2 |" in capsys.readouterr().out
    monkeypatch.delattr(widths, "measured")
    assert widths.main(options) == [row]


def test_the_trend_over_widths():
    """Gaps that fall with the width in each of 5 seeds are a trend by Page's test; rising ones are none."""
    rows = [
        widths.Row("moons", "ReLU", width, seed, {}, gap, -gap, 0.0, 1, 0, 0.0)
        for seed in range(5)
        for width, gap in ((2, 0.3), (4, 0.2 - seed / 100), (8, 0.1))
    ]
    assert widths.trend(rows, "gap") < 1e-3 < 0.99 < widths.trend(rows, "bar")


def test_a_table_of_heights(monkeypatch, capsys):
    """Every method joins one pair of tiny minima, no height is below its ends, and the ratio is printed."""
    tiny = replace(
        heights.REGIMES["fc"],
        network={"name": "fc", "hidden": [4]},
        data={"name": "digits"},
        epochs=2,
        units=6,
    )
    monkeypatch.setattr(heights, "REGIMES", {"fc": tiny})
    monkeypatch.setattr(heights, "MINIMA", 2)
    assert heights.main(["fc", "seed=0"])["fc"] > 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.err.splitlines() if line.startswith("{")]
    assert {row["method"] for row in rows} == set(heights.METHODS)
    # Its ends belong to a path; measured alone they may differ in the last digits of a float32.
    assert all(row["height"] >= row["birth"] * (1 - 1e-5) for row in rows)
    assert "| our default |" in said.out


def test_the_gaussians_name_the_seeds_that_missed(monkeypatch, capsys):
    """Passes within 1 % count as found; what a seed takes is measured by tests of the default start."""
    found = {"in the plane": (0.009, 5), "in 1,000 dimensions": (0.02, 5)}
    assert set(found) == set(gaussians.SPACES)
    monkeypatch.setattr(gaussians, "excesses", lambda seed: found)
    assert gaussians.main(3, 4) == {"in the plane": [], "in 1,000 dimensions": [3]}
    assert "in 1,000 dimensions: 0 of 1 (goal 95); not seeds 3" in capsys.readouterr().out


def test_a_table_of_lazy_pairs(monkeypatch, tmp_path, capsys):
    """The program agrees with what is read from the whole run, and what is proved is within tolerance."""
    base = lazy.RUNS["digits"]
    tiny = {
        **base,
        "data": {"name": "digits", "subset": 100},
        "network": {"name": "fc", "hidden": [4]},
        "minima": {**base["minima"], "count": 4, "epochs": 60},
        "paths": {**base["paths"], "points": 4, "epochs": 3, "bezier_epochs": 1},
    }
    monkeypatch.setattr(lazy, "RUNS", {"digits": tiny})
    monkeypatch.setattr(lazy, "RUNGS", {"digits": (1,)})
    monkeypatch.setattr(lazy, "BUDGETS", (4,))
    rows = lazy.main(["digits", "--store", str(tmp_path)])
    assert min(row.tolerance for row in rows.values()) > 1e-6  # so bars have lengths
    assert any(row.proved for row in rows.values())
    assert all(row.distance <= row.tolerance for row in rows.values() if row.proved)
    assert "Proved" in capsys.readouterr().out


def test_pairs_needed_by_connected_minima(monkeypatch):
    """With passes within the tolerance of their floors the share falls with n."""
    monkeypatch.setattr(pairs_needed, "SEEDS", 1)
    few, many = pairs_needed.main((10, 40))["connected", 3e-3]
    assert few <= 45 and many < 80


@pytest.mark.parametrize(
    ("program", "small"),
    [
        (test_barcode_speed.INDEX_0, {"1000": "30"}),
        (test_barcode_speed.INDEX_1, {"COUNT": "9", "RISE": "0"}),
    ],
)
def test_a_small_barcode(program, small):
    """The timed programs run with few minima, and both sides have the same bars."""
    for name, value in small.items():
        assert name in program
        program = program.replace(name, value)
    found = test_barcode_speed.measured(program, "times", "1")
    assert found["same"] and found["bars"] > 0
