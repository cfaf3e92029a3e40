"""What the probe chooses is right, and fast; how many paths share a step follows from the device."""

import pytest
import torch

from topo_core.objectives.batching import memory_budget as memory
from topo_core.objectives.batching.literal import LiteralEvaluator
from topo_core.objectives.batching.memory_budget import paths_that_fit
from topo_core.objectives.batching.registry import STRATEGIES
from workers.execution import strategy_probe as probe
from workers.execution.strategy_probe import choose_evaluation, fastest
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import load_problem
from workers.problems.user_code import BadReference
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.problem import Problem
from workers.tasks.specs import DataSpec, NetworkSpec

WORK = PathTaskSettings(points=4, batch_size=16)


def loaded(network="cnn1", paths_at_once=1):
    options = {"channels": 2} if network == "cnn1" else {"hidden": [4]}
    problem = Problem(
        NetworkSpec.parse({"name": network, **options}),
        DataSpec.parse({"name": "digits", "subset": 40}),
        "data",
        "network",
    )
    return load_problem(problem, Evaluation(paths_at_once=paths_at_once))


class Wrong(LiteralEvaluator):
    """Quick, and another gradient."""

    def gradients(self, points, inputs, targets):
        losses = super().gradients(points[:1], inputs, targets)[0]
        return losses.expand(len(points)), 2 * points


class Named:
    """A strategy that makes the given evaluators."""

    name, holds_all_points, needs_no_trial = "functional", False, False

    def __init__(self, make):
        self.make = make

    def allows(self, network, situation):
        return True


@pytest.mark.parametrize("paths_at_once", [1, 3])
def test_what_is_wrong_is_not_chosen(monkeypatch, paths_at_once):
    """A strategy that does not give the literal loop's numbers is no candidate, however fast."""
    monkeypatch.setitem(STRATEGIES, "functional", Named(Wrong))
    chosen, notes = fastest(loaded(paths_at_once=paths_at_once), WORK, ("functional", "literal"))
    assert chosen == Evaluation(strategy="literal", paths_at_once=paths_at_once)
    assert len(notes) == 1 and "functional is not used: its " in notes[0]


def test_what_fails_is_not_chosen(monkeypatch):
    """A strategy that cannot evaluate this network is passed over."""

    def refuses(network):
        raise RuntimeError("not this one")

    monkeypatch.setitem(STRATEGIES, "functional", Named(refuses))
    chosen, notes = fastest(loaded(), WORK, ("functional", "literal"))
    assert chosen.strategy == "literal"
    assert notes == ("The evaluation strategy functional is not used: it fails: not this one.",)


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"channels_last": 1.05, "functional": 1.0, "literal": 2.0}, "channels_last"),
        ({"channels_last": 1.25, "functional": 1.0, "literal": 1.05}, "functional"),
        ({"channels_last": 1.5, "functional": 1.4, "literal": 1.0}, "literal"),
    ],
)
def test_chance_does_not_choose(monkeypatch, seconds, chosen):
    """Of those that take about as long, the first that is offered; they are timed as a worker is set up."""

    def taken(trial):
        assert torch.get_num_threads() == 1
        return seconds[trial.name]

    monkeypatch.setattr(probe.StrategyTrial, "seconds", taken)
    candidates = ("channels_last", "functional", "literal")
    assert fastest(loaded(), WORK, candidates)[0].strategy == chosen


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_on_a_cpu_paths_go_one_by_one():
    """There a path's bits must not depend on its company."""
    chosen = choose_evaluation(loaded("fc"), WORK).evaluation
    assert chosen == Evaluation(strategy=chosen.strategy)
    assert chosen.strategy in ("linear", "linear_onednn")  # by the processor


def test_paths_that_fit_follow_from_memory(monkeypatch):
    """Twenty copies of a path of 10 points of 1,000 float32 are 800 kB; never none, never too many."""
    device = torch.device("cpu")
    for room, paths in ((8_100_000, 10), (1, 1), (1 << 40, 64)):
        monkeypatch.setattr(memory, "_CPU_BUDGET", room)
        assert paths_that_fit(device, 10, 1000) == paths


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a machine without a GPU")
def test_a_precision_that_is_not_to_be_had_is_refused():
    """The sentence names the key of the run file."""
    with pytest.raises(
        BadReference, match=r"resources\.precision is 'tf32', which needs a CUDA GPU"
    ):
        choose_evaluation(loaded("fc"), WORK, "tf32")
