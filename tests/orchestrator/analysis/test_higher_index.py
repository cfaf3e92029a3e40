"""Simplices as tasks of a run: their barcodes, and that interruptions change no result."""

import itertools
import json
import math
import shutil
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.interruptions import killed_when
from tests.helpers.run_files import finished_run, write_run_file
from topo_core.simplices.lattice import samples
from workers.problems.data_sets import load_dataset
from workers.problems.networks import build
from workers.tasks.specs import DataSpec, NetworkSpec

SETTINGS = {
    "data": "digits",
    "network": {"name": "fc", "hidden": [8]},
    "minima": {"count": 4, "epochs": 10},
    "paths": {"bezier_epochs": 1, "epochs": 10, "points": 9, "evaluate_every": 5},
    "simplices": {"epochs": 8, "subdivisions": 3, "height_tolerance": 0.01, "evaluate_every": 4},
    "reduce": {"max_index": 2},
}
write = partial(write_run_file, settings=SETTINGS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """An uninterrupted run in one process, and its output."""
    folder = tmp_path_factory.mktemp("higher")
    outcome = toscore("run", write(folder, "a"), "--in-process")
    assert outcome.code == 0, outcome.err
    return folder / "runs" / "a", outcome.out


def test_all_simplices_are_there_and_their_barcodes(undisturbed):
    """A run of four minima has four triangles, a tetrahedron, and barcodes and TO-scores of index 1 and 2."""
    run, printed = undisturbed
    result = json.loads(toscore("reduce", run, "--json").out)
    assert result["complete"] is True
    assert set(result["barcodes"]) == set(result["to_score"]) == {"0", "1", "2"}
    for index in ("1", "2"):
        lengths = []
        for bar in result["barcodes"][index]:
            assert {"birth", "death"} <= set(bar)
            lengths.append(bar["death"] - bar["birth"])
            assert len(bar["born"]) == int(index) + 1 and len(bar["killed"]) == int(index) + 2
        assert result["to_score"][index] == pytest.approx(max(lengths, default=0) / 2)
    assert "Index 1" in printed and "Index 2" in printed
    sizes = sorted(len(row["vertices"]) for row in results.raw_records(run, "simplices"))
    assert sizes == [3, 3, 3, 3, 4]


def test_values_are_monotone_and_count_the_faces(undisturbed):
    """No simplex is lower than one of its faces or than its own dense maximum."""
    run, _ = undisturbed
    rows = {tuple(row["vertices"]): row for row in results.raw_records(run, "simplices")}
    for vertices, row in rows.items():
        assert row["value"] >= max(row["own_maximum"], *row["face_maxima"])
        assert row["value_high"] >= row["value"]
        if len(vertices) == 4:
            for face in itertools.combinations(vertices, 3):
                assert row["value"] >= rows[face]["own_maximum"] - 1e-9
    # Two triangles with a common edge have measured the same polygon.
    edges = {}
    for vertices, row in rows.items():
        if len(vertices) == 3:
            for pair, height in zip(
                itertools.combinations(vertices, 2), row["face_maxima"], strict=True
            ):
                assert height == pytest.approx(edges.setdefault(pair, height), rel=1e-3)


def test_values_from_the_stored_points_alone(undisturbed):
    """A plain loop over a denser lattice gives each triangle's value within its interval."""
    run, _ = undisturbed
    data = load_dataset(DataSpec("digits"))
    module = build(NetworkSpec("fc", (("hidden", (8,)),)), data.input_shape, data.classes).double()
    inputs = data.train_inputs.double()

    def loss(point):
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(point, module.parameters())
            return float(torch.nn.functional.cross_entropy(module(inputs), data.train_targets))

    for row in results.raw_records(run, "simplices"):
        if len(row["vertices"]) != 3:
            continue
        table = pq.read_table(run / row["object"]).to_pylist()
        points = np.array([line["values"] for line in table if line["name"] == "points"])
        points = torch.as_tensor(points).double()
        corners, weights = samples(2, 3, 8)
        dense = max(
            loss((w[:, None] * points[p]).sum(0)) for p, w in zip(corners, weights, strict=True)
        )
        assert dense <= row["value_high"] + 1e-5
        assert row["value"] <= dense + 0.02 * row["value"]


def test_a_killed_driver_is_continued(undisturbed, tmp_path):
    """A worker that dies before triangles are optimised and meanwhile: same bits, no task twice."""
    file, run = write(tmp_path, "a"), tmp_path / "runs" / "a"
    for reached in (
        lambda: len(results.raw_records(run, "pairs")) >= 3,
        lambda: results.raw_records(run, "simplices"),
    ):
        with killed_when(reached):
            finished_run(file)
    finished_run(file)
    assert results.bits(run) == results.bits(undisturbed[0])
    assert results.reduced(run) == results.reduced(undisturbed[0])
    assert set(results.times_completed(run).values()) == {1}


def test_without_a_triangle_its_loop_is_open(undisturbed, tmp_path):
    """A missing triangle is reported, fills nothing, and is computed again to the same bits."""
    run = tmp_path / "runs" / "a"
    shutil.copytree(undisturbed[0], run)
    for file in (run / "records" / "simplices").iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    result = json.loads(toscore("reduce", run, "--json").out)
    assert result["complete"] is False
    deaths = [bar["death"] for bar in result["barcodes"]["1"]]
    assert deaths == [None] * math.comb(3, 2)  # independent cycles of the complete graph on four
    assert result["to_score"]["1"] is None
    assert "simplices" in toscore("reduce", run).out
    assert toscore("run", write(tmp_path, "a"), "--in-process").code == 0
    assert results.reduced(run) == results.reduced(undisturbed[0])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("pairs.rule=lazy", "pairs.rule all"),
        ("minima.count=2", "a loop needs 3"),
        ("simplices.subdivisions=1", "subdivisions is 1"),
    ],
)
def test_a_run_that_cannot_have_loops_is_refused(tmp_path, setting, message):
    """A run that cannot have loops is refused in one sentence with exit code 2, and nothing is written."""
    outcome = toscore("run", write(tmp_path, "a"), "--set", setting, "--in-process")
    assert outcome.code == 2 and message in outcome.err, outcome.err
    assert not (tmp_path / "runs").exists()


def test_plan_states_the_cost(tmp_path):
    """`plan` counts C(n, 3) triangles and C(n, 4) tetrahedra."""
    outcome = toscore(
        "plan", write(tmp_path, "a"), "--no-sample", "--json", "--set", "minima.count=7"
    )
    cost = json.loads(outcome.out)
    assert cost["simplices"] == math.comb(7, 3) + math.comb(7, 4)
    text = toscore("plan", write(tmp_path, "a"), "--no-sample", "--set", "minima.count=7").out
    assert "C(7, 3) + C(7, 4)" in text
