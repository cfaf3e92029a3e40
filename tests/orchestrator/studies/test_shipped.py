"""The studies that are shipped: whole, at every scale, with the numbers of the paper's tables."""

import json

import pytest
from torch import nn

from orchestrator.studies.cost import forward_operations
from orchestrator.studies.measures import FROM_POINTS, MEASURES
from orchestrator.studies.study import load_study, scales_of, shipped
from tests.helpers.command import toscore
from workers.problems.data_sets import sizes
from workers.problems.networks import build, count_parameters
from workers.tasks.specs import DataSpec, NetworkSpec

NAMES = [
    "fig2-fmnist",
    "fig2-mnist",
    "fig3",
    "fig4",
    "fig5-cifar10",
    "fig5-svhn",
    "figF",
    "figG",
    "generalisation",
]
OURS = ["cifar100", "oscar", "svhn-as-published", "transformer", "width"]
"""Studies beyond the figures: other data, another way to measure, smooth networks with a ridge."""
PAPERS_DATA = {"mnist", "fmnist", "cifar10", "svhn"}


def test_every_figure_has_a_study():
    """The figures of sections 2.1 to 2.7 and of Appendices F and G."""
    assert list(shipped()) == sorted([*NAMES, *OURS])


@pytest.mark.parametrize("name", NAMES)
def test_both_scales_expand(name):
    """At full scale on the paper's data; at reduced scale on data that comes in packages, 3 seeds or more."""
    assert scales_of(f"study:{name}")[:2] == ("full", "reduced")
    full, reduced = (load_study(f"study:{name}", [f"scale={s}"]) for s in ("full", "reduced"))
    assert {cell.run.data.name for cell in full.cells} <= PAPERS_DATA
    assert {cell.run.data.name for cell in reduced.cells} <= {"mnist5k", "digits"}
    assert len(reduced.axes["seed"]) >= 3
    for study in (full, reduced):
        assert study.claims
        for claim in study.claims:
            assert claim.measure in MEASURES or claim.measure in FROM_POINTS
            assert set(claim.among) <= set(study.axes[claim.along] if claim.along else ())
        for cell in study.cells:
            assert (cell.run.paths.start, cell.run.paths.force) == ("line", "paper")
            assert cell.run.paths.l2 == 1e-5


RIDGE_SCALES = [
    *((name, "ridge") for name in ("fig2-fmnist", "fig2-mnist", "fig3", "fig4", "generalisation")),
    ("width", "reduced"),
    *((name, "verified") for name in ("fig2-fmnist", "fig3", "fig4", "generalisation", "width")),
]


@pytest.mark.parametrize(("name", "scale"), RIDGE_SCALES)
def test_scales_with_a_ridge(name, scale):
    """The loss has minima: a ridge is part of it, nothing decays weights beside it, and there are 5 seeds."""
    study = load_study(f"study:{name}", [f"scale={scale}"])
    assert len(study.axes["seed"]) == 5 and study.claims
    for cell in study.cells:
        assert cell.run.loss.ridge == 1e-3
        assert cell.run.paths.l2 == 0
        assert {training.l2 for training in cell.run.minima.trainings} == {0.0}
        assert cell.run.network.option("activation", "relu") == "tanh"


@pytest.mark.parametrize("name", ["fig2-fmnist", "fig3", "fig4", "generalisation", "width"])
def test_scales_whose_bars_can_be_verified(name):
    """Smooth networks of at most 300 parameters in float64, polished, whose paths are led over saddles."""
    for cell in load_study(f"study:{name}", ["scale=verified"]).cells:
        run = cell.run
        data = sizes(run.data)
        module = build(run.network, data.input_shape, data.classes)
        assert count_parameters(module) <= 300
        assert not any(isinstance(part, nn.MaxPool2d | nn.ReLU) for part in module.modules())
        assert (run.dtype, run.saddles.refine) == ("float64", "bars")
        assert {training.polish for training in run.minima.trainings} == {"on"}


@pytest.mark.parametrize("name", ["fig2-mnist", "fig2-fmnist"])
def test_better_relaxed_paths_join_the_same_minima(name):
    """The scale that answers whether paths were relaxed too little differs from the reduced in paths only."""
    reduced, relaxed = (
        load_study(f"study:{name}", [f"scale={s}"]) for s in ("reduced", "reduced-bezier")
    )
    for one, other in zip(reduced.cells, relaxed.cells, strict=True):
        assert (one.run.data, one.run.network, one.run.minima, one.run.seed) == (
            (other.run.data, other.run.network, other.run.minima, other.run.seed)
        )
        assert (other.run.paths.start, other.run.paths.force) == ("bezier", "improved")
        assert one.run.paths.epochs == other.run.paths.epochs


@pytest.mark.parametrize("name", ["fig2-mnist", "fig2-fmnist"])
def test_depths(name):
    """2, 3, 4, 6 and 8 layers of 32, 10 minima and 45 paths each (section 2.1)."""
    cells = load_study(f"study:{name}").cells
    assert [cell.run.network.option("hidden", None) for cell in cells] == [
        (32,) * depth for depth in (2, 3, 4, 6, 8)
    ]
    assert {cell.run.minima.total for cell in cells} == {10}


@pytest.mark.parametrize("scale", ["full", "reduced"])
def test_figure_4_is_sorted_by_parameters(scale):
    """The axis along which barcodes should fall is that of the number of parameters."""
    study = load_study("study:fig4", [f"scale={scale}", "matrix.seed=[0]"])
    shape = (3, 32, 32) if scale == "full" else (1, 8, 8)
    counts = [count_parameters(build(cell.run.network, shape, 10)) for cell in study.cells]
    assert counts == sorted(counts) and len(set(counts)) == len(counts)


@pytest.mark.parametrize(
    ("name", "annealed", "path"),
    [
        # (m1, m2, lr_max, lr_min), epochs: Tables A.1 and D.5, A.2 and D.6.
        ("fig5-cifar10", ((10, 80, 1e-2, 1e-4), 300), ((270, 300, 2e-3, 1.25e-4), 300, 150)),
        ("fig5-svhn", ((50, 100, 5e-2, 1e-4), 100), ((170, 200, 2e-3, 1.25e-4), 200, 256)),
    ],
)
def test_the_tables_of_figure_5(name, annealed, path):
    """Training as in Tables A.1 and A.2, paths as in D.5 and D.6, 8 minima, 19 points, insertion every 25."""

    def rates(schedule):
        return (schedule.m1, schedule.m2, schedule.lr_max, schedule.lr_min)

    first, second = (cell.run for cell in load_study(f"study:{name}").cells)
    constant = first.minima.training
    assert (constant.schedule.rate(700, 3, 196, 0.5, 1500), constant.epochs) == (1e-4, 1500)
    training = second.minima.training
    assert (rates(training.schedule), training.epochs) == annealed
    for run in (first, second):
        settings = run.minima.training
        assert (settings.optimizer.name, settings.optimizer.momentum) == ("momentum", 0.9)
        assert (settings.batch_size, settings.l2, run.minima.total) == (256, 0.0, 8)
        paths = run.paths
        assert (rates(paths.schedule), paths.epochs, paths.batch_size) == path
        assert (paths.optimizer.name, paths.points) == ("sgd", 19)
        rule = paths.insertion
        assert (rule.every, rule.criterion, rule.threshold) == (25, "distance", 1.2)


def test_operations_are_counted():
    """A fully connected network multiplies once for each weight: two operations each."""
    weights = 784 * 32 + 32 * 32 + 32 * 10
    assert forward_operations(NetworkSpec("fc"), DataSpec("mnist")) == 2 * weights


def test_the_list():
    """`toscore studies` prices every study at every scale without its data."""
    listed = json.loads(toscore("studies", "--json").out)["studies"]
    assert [item["study"] for item in listed if item["scale"] == "full"] == sorted([*NAMES, *OURS])
    costs = {(item["study"], item["scale"]): item["cost"] for item in listed}
    assert costs["fig2-mnist", "full"]["paths"] == 5 * 45
    # 45 paths, 200 epochs of 235 minibatches, 17 moving points.
    assert costs["fig2-mnist", "full"]["gradients"] == 5 * 45 * 200 * 235 * 17
    assert costs["fig5-cifar10", "full"]["paths"] == 2 * 28
    for name in NAMES:
        assert costs[name, "reduced"]["operations"] < costs[name, "full"]["operations"] / 100
    assert "study:fig5-svhn" in toscore("studies").out
