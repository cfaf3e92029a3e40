"""A whole run whose worker optimises several paths together, as on a GPU."""

from dataclasses import replace

import pytest

from orchestrator import launch, load_run, preparation
from orchestrator.run_file.reading import parse
from workers.execution.worker import Worker

RUN = {
    "data": {"name": "digits", "subset": 200},
    "network": {"name": "fc", "hidden": [8]},
    "minima": {"count": 4, "epochs": 3, "batch_size": 64},
    "paths": {"points": 5, "epochs": 2, "batch_size": 64, "bezier_epochs": 2, "heights": "paper"},
}


def _with_paths(choice, paths_at_once):
    return replace(choice, evaluation=replace(choice.evaluation, paths_at_once=paths_at_once))


@pytest.fixture
def carried(tmp_path, monkeypatch):
    """Carries out the run with so many paths at once; the run, and the packs of its worker."""

    def make(paths_at_once):
        packs = []
        choose, carry = preparation.choose_evaluation, Worker.run
        with monkeypatch.context() as patch:
            patch.setattr(
                preparation,
                "choose_evaluation",
                lambda *given: _with_paths(choose(*given), paths_at_once),
            )
            patch.setattr(
                Worker, "run", lambda self, pack: packs.append(len(pack)) or carry(self, pack)
            )
            run = parse({**RUN, "name": f"at{paths_at_once}", "store": str(tmp_path)})
            assert launch.execute(run, launch.LaunchOptions(in_process=True, quiet=True)).code == 0
        return load_run(run.location), packs

    return make


def test_a_run_with_packs_is_the_run_without(carried):
    """Six pairs in one pack: complete, heights as one by one, and the number is part of the run."""
    together, packs = carried(64)
    alone, _ = carried(1)
    assert packs[-1] == 6
    assert together.complete
    assert together.losses.tolist() == alone.losses.tolist()
    assert together.heights == pytest.approx(alone.heights, rel=1e-3)
    assert together.started.evaluation.paths_at_once == 64
