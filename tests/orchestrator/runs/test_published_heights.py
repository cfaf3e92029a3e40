"""Heights as the authors' repository measures them, beside those of a run."""

import json

import pytest
import torch

from orchestrator.runs.published_heights import ALPHAS, L2, measured, published_heights
from orchestrator.runs.stored_run import open_run
from orchestrator.studies.compare import compare
from orchestrator.studies.study import load_study
from tests.helpers.command import toscore
from tests.helpers.run_files import finished_run, write_run_file
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem

SETTINGS = {
    "data": {"name": "digits", "subset": 200},
    "network": {"name": "fc", "hidden": [6]},
    "minima": {"count": 2, "epochs": 6, "batch_size": 50},
    "paths": {"epochs": 3, "points": 5, "start": "line", "batch_size": 25},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return open_run(str(finished_run(write_run_file(folder, "measured", SETTINGS))))


def test_where_the_loss_is_measured(run):
    """At α = ¼, ½, ¾ of each segment, on an eighth of the minibatches, with 10⁻⁵ Σ‖θ_tensor‖."""
    loaded = load_problem(run.plan.problem, Evaluation())
    found = published_heights(run)
    (path,) = run.landscape().passes.values()
    points = run.store.read_path(path.object)["points"]
    between = [
        points[k] + alpha * (points[k + 1] - points[k]) for k in range(4) for alpha in ALPHAS
    ]
    draws = {float(measured(loaded, p[None], 25, "path (0, 1)")) for p in between}
    assert found.heights[0, 1] == pytest.approx(max(*draws, *found.losses.values()))
    whole = torch.stack(between)
    norms = [
        sum(float(tensor.norm()) for tensor in loaded.layout.views(point).values())
        for point in between
    ]
    batch = measured(loaded, whole[:1], 200, "any")  # one minibatch holds all examples
    (loss,) = loaded.objective(200).losses(whole[:1])
    assert float(batch) == pytest.approx(float(loss) + L2 * norms[0], rel=1e-6)


def test_a_study_can_claim_it(tmp_path):
    """The measures that end in _published have a value for each complete run, where a claim asks for them."""
    file = tmp_path / "ours.yaml"
    values = {
        "study": "ours",
        "store": str(tmp_path / "runs"),
        "run": SETTINGS,
        "matrix": {"seed": [0]},
        "claims": [{"say": "s", "measure": "saddle_published", "expect": "positive"}],
    }
    file.write_text(json.dumps(values))
    assert toscore("run", file, "--in-process", "-q").code == 0
    (row,) = compare(load_study(file)).rows
    published = row.measures["saddle_published"]
    assert published is not None and published > 0
    file.write_text(json.dumps({**values, "claims": []}))
    (row,) = compare(load_study(file)).rows
    assert "saddle_published" not in row.measures
