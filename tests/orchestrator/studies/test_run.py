"""A study is run, resumed and compared as one."""

import json
import math
import os
import signal

import pytest
import yaml

from orchestrator.studies.compare import compare
from orchestrator.studies.study import load_study
from tests.helpers import results
from tests.helpers.command import toscore
from tests.helpers.process import started, wait_until

STUDY = {
    "study": "tiny",
    "run": {
        "data": {"name": "digits", "subset": 60},
        "minima": {"count": 3, "epochs": 3, "optimizer": {"name": "adam", "lr": 0.01}},
        "paths": {"epochs": 2, "points": 5, "force": "paper", "start": "line"},
    },
    "matrix": {
        "width": {
            "narrow": {"network": {"name": "fc", "hidden": [3]}},
            "wide": {"network": {"name": "fc", "hidden": [12]}},
        },
        "seed": [0, 1],
    },
    "claims": [
        {"say": "wider is lower", "measure": "train_loss", "along": "width", "expect": "falls"},
        {"say": "flat along", "measure": "normal_norm", "along": "width", "expect": "rises"},
        {"say": "goes with errors", "measure": "bar_with_error", "expect": "positive"},
    ],
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A study that has been run to the end, in two goes: first one axis label, then all."""
    folder = tmp_path_factory.mktemp("study")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**STUDY, "store": str(folder / "runs")}, sort_keys=False))
    said = toscore("run", file, "--set", "matrix.width=[narrow]", "--in-process")
    assert said.code == 0, said.err
    assert "tiny 2 of 2: narrow.seed1" in said.err
    return file


@pytest.fixture(scope="module")
def first_half(file):
    """What the first go had written."""
    runs = file.parent / "runs" / "tiny-full"
    assert sorted(p.name for p in runs.iterdir()) == ["narrow.seed0", "narrow.seed1"]
    partly = json.loads(toscore("studies", file, "--json").out)
    bits = {name: results.bits(runs / name) for name in ("narrow.seed0", "narrow.seed1")}
    assert toscore("run", file, "--in-process", "--quiet").code == 0
    return partly, bits


def test_a_part_is_compared_too(first_half):
    """While runs are missing, the comparison names them and tests no claim."""
    partly, _ = first_half
    assert partly["complete"] is False
    assert [run["complete"] for run in partly["runs"]] == [True, True, False, False]
    assert partly["claims"][0]["verdict"] == "not reached"


def test_resuming_adds_what_is_missing(file, first_half):
    """The runs of the first go are left as they were; the others are added; each task ran once."""
    _, bits = first_half
    runs = file.parent / "runs" / "tiny-full"
    for name, before in bits.items():
        assert results.bits(runs / name) == before
    for name in ("narrow.seed0", "wide.seed1"):
        assert set(results.times_completed(runs / name).values()) == {1}
        assert len(results.times_completed(runs / name)) == 3 + 3


def test_a_complete_study_does_nothing(file, first_half):
    """Running it again starts no run: no lease is taken, nothing is written."""
    runs = file.parent / "runs" / "tiny-full"
    before = {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()}
    said = toscore("run", file, "--in-process")
    assert said.code == 0 and "of 4" not in said.err
    assert "wider is lower" in said.out
    assert {p: p.stat().st_mtime_ns for p in runs.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_a_killed_study_goes_on(tmp_path):
    """SIGKILL amid its second run, and the same command again: each task of each run is completed once."""
    file, runs = tmp_path / "tiny.yaml", tmp_path / "runs" / "tiny-full"
    work = {**STUDY["run"], "minima": {**STUDY["run"]["minima"], "epochs": 60}}
    study = {**STUDY, "run": work, "store": str(tmp_path / "runs")}
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    amid = runs / "narrow.seed1"
    with started(tmp_path, "run", file, "--in-process") as process:
        wait_until(lambda: bool(list((amid / "minima").glob("*"))), process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    before = {run: results.bits(run) for run in runs.iterdir()}
    assert sum(map(len, before.values())) < 4 * 6
    assert toscore("run", file, "--in-process", "--quiet").code == 0
    for run in runs.iterdir():
        assert set(results.times_completed(run).values()) == {1}
        assert len(results.times_completed(run)) == 3 + 3
    for run, bits in before.items():
        assert bits.items() <= results.bits(run).items()


def test_minima_are_trained_once_for_runs_that_share_them(tmp_path):
    """Runs that differ in their paths alone have the same minima, and the second one copies them."""
    file = tmp_path / "paths.yaml"
    run = {**STUDY["run"], "network": {"name": "fc", "hidden": [3]}}
    matrix = {"points": {"few": {"paths.points": 4}, "many": {"paths.points": 6}}}
    study = {"study": "p", "store": str(tmp_path), "run": run, "matrix": matrix}
    file.write_text(yaml.safe_dump(study, sort_keys=False))
    said = toscore("run", file, "--in-process")
    assert said.code == 0 and "3 results of other runs are reused" in said.err
    few, many = (tmp_path / "p-full" / name for name in ("few", "many"))
    names = [sorted(p.name for p in (run / "minima").iterdir()) for run in (few, many)]
    assert names[0] == names[1] and len(names[0]) == 3


def test_the_comparison_is_that_of_the_runs(file, first_half):
    """Every number comes out of the reduced runs, and claims are judged over seeds."""
    found = json.loads(toscore("studies", file, "--json").out)
    assert found["complete"] is True
    for row in found["runs"]:
        reduced = json.loads(
            toscore("reduce", file.parent / "runs/tiny-full" / row["run"], "--json").out
        )
        losses = [m["loss"] for m in reduced["minima"]]
        assert row["measures"]["train_loss"] == pytest.approx(sum(losses) / 3)
        bars = [b for b in reduced["barcodes"]["0"]["direct"] if b["death"] is not None]
        length = sum(b["death"] - b["birth"] for b in bars) / len(bars)
        assert row["measures"]["bar"] == pytest.approx(length)
        assert row["measures"]["to_score"] == reduced["to_score"]["0"]["direct"]
    assert [row["parameters"] for row in found["runs"]] == [
        width * 64 + width + width * 10 + 10 for width in (3, 3, 12, 12)
    ]
    lower = found["claims"][0]
    means = [
        sum(r["measures"]["train_loss"] for r in found["runs"] if r["labels"]["width"] == w) / 2
        for w in ("narrow", "wide")
    ]
    assert lower["means"] == pytest.approx(means) and lower["blocks"] == 2


def test_gradient_norms_are_those_of_the_stored_points(file, first_half):
    """The two parts of the gradient, taken at stored points, are what Algorithm 2 makes of it."""

    from orchestrator.runs.gradient_norms import gradient_norms
    from orchestrator.runs.stored_run import open_run
    from workers.problems.evaluation import Evaluation
    from workers.problems.loaded_problem import load_problem

    run = open_run(str(file.parent / "runs/tiny-full/wide.seed0"))
    norms = next(iter(gradient_norms(run)))
    record = run.landscape().passes[0, 1]
    points = run.store.read_path(record.object)["points"]
    objective = load_problem(run.plan.problem, Evaluation()).objective(60)

    def along(gradient, chord):
        unit = chord / chord.norm()
        return (gradient @ unit) * unit

    for i in range(1, 4):
        gradient = objective.full_gradient(points[i])
        left, right = points[i] - points[i - 1], points[i + 1] - points[i]
        tangent = (along(gradient, left) + along(gradient, right)) / 2
        assert float(norms.tangent[i - 1]) == pytest.approx(float(tangent.norm()), rel=1e-3)
        normal = float((gradient - tangent).norm())
        assert float(norms.normal[i - 1]) == pytest.approx(normal, rel=1e-3)
    middle = norms.root_mean_square(norms.tangent, middle=True)
    chosen = [float(norms.tangent[i]) for i in range(3) if abs(norms.positions[i] - 0.5) <= 1 / 6]
    assert middle == pytest.approx(math.sqrt(sum(v * v for v in chosen) / len(chosen)))


def test_the_table(file, first_half):
    """On a terminal: means over seeds, each claim with its verdict, and the hours of work."""
    out = toscore("studies", file).out
    assert "tiny (full scale)" in out and "wider is lower" in out and "hours of work" in out


def test_the_plan_of_a_study(file):
    """Runs that differ in their seed alone are timed once; nothing is written."""
    plans = json.loads(toscore("plan", file, "--json", "--set", "store=nowhere").out)
    assert [plan["runs"] for plan in plans] == [2, 2]
    assert [plan["each"]["paths"] for plan in plans] == [3, 3]
    assert "one worker of this machine" in toscore("plan", file).out


def test_a_measure_that_is_not_known(file):
    """The sentence lists those that are."""
    study = load_study(file)
    claim = study.claims[0].model_copy(update={"measure": "hight"})
    from dataclasses import replace

    from orchestrator.run_file.errors import BadRunFile

    with pytest.raises(BadRunFile, match=r"'hight'; choose one of to_score"):
        compare(replace(study, claims=(claim,)))


def test_a_failed_run_keeps_no_other_from_running(tmp_path):
    """A run that diverges is reported with exit code 3, after the others have run."""
    file = tmp_path / "two.yaml"
    wild = {"minima.optimizer": {"name": "sgd", "lr": 1e30}}
    rates = {"wild": wild, "tame": {}}
    run = {**STUDY["run"], "network": {"name": "fc", "hidden": [3]}}
    study = {**STUDY, "store": str(tmp_path), "run": run, "claims": []}
    file.write_text(
        yaml.safe_dump({**study, "matrix": {"rate": rates, "seed": [0]}}, sort_keys=False)
    )
    assert toscore("run", file, "--in-process", "--quiet").code == 3
    found = json.loads(toscore("studies", file, "--json").out)
    assert [row["complete"] for row in found["runs"]] == [False, True]


def test_the_table_of_a_study_is_readable_on_80_columns(file, first_half):
    """No number and no name of a measure is cut or broken where standard output is not a terminal."""
    said = toscore("studies", file)
    lines = {" ".join(line.split()[:-6]): line for line in said.out.splitlines()}
    assert said.code == 0 and "…" not in said.out
    for name in ("train loss", "test accuracy", "TO-score elder"):
        assert lines[name].count(" ± ") == 2, said.out
