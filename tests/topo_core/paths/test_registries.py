"""Rules of one's own: each kind is added from outside the package, without touching another file."""

import pytest
import torch

from topo_core.paths.criteria.registry import CRITERIA
from topo_core.paths.height_rules import HEIGHTS, HeightRule
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.optimize import optimize_path
from topo_core.paths.polyline import line
from topo_core.paths.settings import PathSettings
from topo_core.paths.start_registry import STARTS, StartRule
from topo_core.paths.starts.protocol import Start
from topo_core.paths.tangents.protocol import Method
from topo_core.paths.tangents.registry import TANGENTS
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.paths.updates.registry import UPDATES
from topo_core.reference_landscapes.surfaces import muller_brown
from topo_core.registry import Registry

LANDSCAPE = muller_brown()
ENDS = LANDSCAPE.minima[:2]


@pytest.fixture(autouse=True)
def registries_as_before(monkeypatch):
    """What a test registers is gone after it."""
    for registry in (TANGENTS, UPDATES, STARTS, CRITERIA, HEIGHTS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def height(**settings):
    return optimize_path(LANDSCAPE.objective, *ENDS, PathSettings(**settings)).profile.maximum


def test_a_tangent_rule_from_outside():
    """A rule that takes out the part along the front chord relaxes a path, with a start of its own choice."""

    class Front:
        method = Method(start="line")

        def shares(self, around):
            share = around.along_front / around.chords.front_front
            return torch.zeros_like(share), share

    TANGENTS.register("front", Front())
    assert PathSettings(force="front").resolve(1).start == "line"
    assert height(force="front", epochs=50) < height(start="line", epochs=0)


def test_an_update_from_outside():
    """An update that moves each point by the rate relaxes a path, and its slot is kept with the points."""

    class Unit:
        def slots(self, points):
            return {"steps": points.new_zeros(len(points), 1)}

        def displacement(self, numbers, slots, normal, rate, *, spacing, bound):
            slots["steps"].add_(1)
            return rate * normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-30)

    UPDATES.register("unit", Unit())
    unit = OptimizerSettings("unit", lr=0.01)
    assert height(start="line", epochs=60, optimizer=unit) < height(start="line", epochs=0)


def test_a_start_from_outside():
    """A start that needs only the loss is made by the optimisation; its gradients are counted."""

    def bent(objective, start, end, resolved, seed):
        points = line(start, end, resolved.settings.points)
        points[1:-1, 0] += 0.1
        return Start(points, gradient_evaluations=7)

    STARTS.register("bent", StartRule("loss", bent))
    settings = PathSettings(start="bent", epochs=0)
    path = optimize_path(LANDSCAPE.objective, *ENDS, settings)
    assert path.gradient_evaluations == 7
    assert not torch.equal(path.points, line(*ENDS, 19))


def test_an_insertion_criterion_from_outside():
    """A criterion that wants a midpoint in the first segment gets it there."""

    class First:
        needs_losses = False

        def scores(self, segments):
            score = torch.zeros_like(segments.lengths)
            score[0] = 2.0
            return score

    CRITERIA.register("first", First())
    settings = PathSettings(
        points=5,
        start="line",
        epochs=2,
        evaluate_every=2,
        redistribute_every=0,
        insertion=Insertion(every=1, criterion="first"),
    )
    path = optimize_path(LANDSCAPE.objective, *ENDS, settings)
    assert path.history[-1].points == 6


def test_a_height_rule_from_outside():
    """A rule whose grid has the points alone measures the largest loss at the points."""
    HEIGHTS.register("points", HeightRule((0.0,), bisects=False))
    path = optimize_path(
        LANDSCAPE.objective, *ENDS, PathSettings(start="line", epochs=0, heights="points")
    )
    assert path.profile.maximum == float(LANDSCAPE.objective.losses(path.points).max())


def test_names_in_messages_are_those_of_the_registry():
    """A rule that was added is among the choices that an error message lists."""
    TANGENTS.register("mine", TANGENTS["string"])
    with pytest.raises(ValueError, match=r"force is .none.; choose one of .*, mine"):
        PathSettings(force="none")


def test_a_name_is_given_once():
    """A name that is taken is refused; an entry named by its module is imported when it is used."""
    registry = Registry({"pi": "math:pi"})
    with pytest.raises(ValueError, match="'pi' is taken"):
        registry.register("pi", 3.0)
    assert list(registry) == ["pi"] and 3.14 < registry["pi"] < 3.15
