"""Losses that have minima and barriers, and pairs of their minima: the rows of `heights barriers`.

- `digits`: cross entropy of a 64-16-10 tanh network on 500 digits plus ½·10⁻³‖θ‖², full batch, float64.
- `noisy`: the same with two hidden layers of 16 and half of the labels random.
- `minibatches`: 784-12-10 ReLU on 1,000 images of mnist5k with the same ridge, eight minibatches, float32.
- `pooled`: the digits averaged to 2×2 pixels, 4-6-10 tanh, 100 parameters.
- `truth`: the small networks of `topo_core.reference_landscapes`, from each class of minima to what lies on
  the other side of its lowest saddle.
- `teacher`: teacher–student networks with k = 7, 8 and 10.
- `unregularised`: the 1-2-1 tanh regression of `truth` without its ridge, between minima near the origin and
  minima with weights of up to 1,700.

Minima of the full-batch losses are polished to stationary points. Those of `minibatches` are trained by Adam
with a decaying rate and then polished by 300 iterations of L-BFGS, to gradient norms of about 1.5e-3, since
the loss has kinks.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.minima import advance_polish, init_polish, polish_minimum
from topo_core.objectives.flat_parameters import ParameterLayout
from topo_core.objectives.losses import Ridge
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.protocol import Objective, from_function
from topo_core.random_streams import generator
from topo_core.reference_landscapes.landscape import Landscape
from topo_core.reference_landscapes.small_networks import iris, tanh_regression, xor
from topo_core.reference_landscapes.teacher_student import teacher_student
from workers.execution.training import begin, train_until
from workers.problems.data_sets import load_dataset
from workers.problems.networks import build
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.specs import DataSpec, NetworkSpec

RIDGE = 1e-3
POLISH = 300  # iterations of L-BFGS, where minima are trained on minibatches


@dataclass(frozen=True)
class Case:
    """A pair of minima [d] of a loss; `lowest` is the lowest pass, where it is known."""

    landscape: str
    name: str
    objective: Objective
    start: Tensor
    end: Tensor
    lowest: float | None = None

    @property
    def birth(self) -> float:
        """The loss of the higher minimum."""
        return float(self.objective.losses(torch.stack([self.start, self.end])).max())


def tanh_loss(widths: tuple[int, ...], examples: int, noise: float, pooled: int = 1) -> Objective:
    """Cross entropy of a tanh network on digits, with a ridge, as a formula of the parameters alone.

    Args:
        widths: of all layers; the first is 64 over the square of ``pooled``.
        examples: number of digits.
        noise: share of random labels.
        pooled: squares of so many pixels are averaged.
    """
    spec: dict[str, object] = {"name": "digits"}
    data = load_dataset(DataSpec.parse({**spec, "label_noise": noise} if noise else spec))
    images = data.train_inputs[:examples].reshape(examples, 1, 8, 8).to(torch.float64)
    inputs = (
        torch.nn.functional.avg_pool2d(images, pooled).flatten(1)
        if pooled > 1
        else images.flatten(1)
    )
    targets = data.train_targets[:examples]
    layers = list(itertools.pairwise(widths))

    def loss(points: Tensor) -> Tensor:
        sizes = [size for first, last in layers for size in (last * first, last)]
        parts = iter(points.split(sizes, dim=1))
        rows = inputs
        for number, (first, last) in enumerate(layers):
            weight, bias = next(parts).reshape(-1, last, first), next(parts)
            rows = rows @ weight.transpose(1, 2) + bias[:, None]
            rows = rows if number == len(layers) - 1 else torch.tanh(rows)
        each = -torch.log_softmax(rows, -1)[:, torch.arange(examples), targets]
        return each.mean(1) + 0.5 * RIDGE * points.square().sum(1)

    return from_function(loss, sum(last * (first + 1) for first, last in layers))


def polished(objective: Objective, widths: tuple[int, ...], count: int) -> list[Tensor]:
    """Minima from random initial weights, numbers 1 to `count`."""
    minima = []
    for index in range(1, count + 1):
        draw = generator(index, "barriers")
        parts = []
        for first, last in itertools.pairwise(widths):
            for shape in ((last, first), (last,)):
                part = 2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1
                parts.append(part.flatten() / first**0.5)
        minima.append(polish_minimum(objective, torch.cat(parts)).point)
    return minima


def digits(count: int, examples: int = 500) -> Iterator[Case]:
    """`count` pairs of successive minima."""
    yield from _chain("digits", (64, 16, 10), count, examples, noise=0.0)


def noisy(count: int, examples: int = 500) -> Iterator[Case]:
    """The same with two hidden layers and half of the labels random."""
    yield from _chain("noisy", (64, 16, 16, 10), count, examples, noise=0.5)


def pooled(count: int, examples: int = 500) -> Iterator[Case]:
    """Digits averaged to 2×2 pixels, 4-6-10 tanh: 100 parameters."""
    yield from _chain("pooled", (4, 6, 10), count, examples, noise=0.0, pooled=4)


def _chain(
    name: str, widths: tuple[int, ...], count: int, examples: int, noise: float, pooled: int = 1
) -> Iterator[Case]:
    objective = tanh_loss(widths, examples, noise, pooled)
    points = polished(objective, widths, count + 1)
    for number, (start, end) in enumerate(itertools.pairwise(points)):
        yield Case(name, f"{number}–{number + 1}", objective, start, end)


def minibatches(count: int, examples: int = 1000) -> Iterator[Case]:
    """`count` pairs of successive minima of a ReLU network whose gradients are on minibatches."""
    data = load_dataset(DataSpec.parse({"name": "mnist5k", "subset": examples}))
    spec = NetworkSpec.parse({"name": "fc", "hidden": [12]})
    module = build(spec, data.input_shape, data.classes)
    objective = ModuleObjective(
        module,
        data.train_inputs,
        data.train_targets,
        batch_size=max(1, examples // 8),
        ridge=Ridge(RIDGE),
    )
    layout = ParameterLayout.of(module)
    settings = MinimumSettings(epochs=200, batch_size=max(1, examples // 8))
    points = []
    for index in range(count + 1):
        first = build(spec, data.input_shape, data.classes, 1000 + index)
        state = begin(settings, layout.flatten(dict(first.named_parameters())))
        trained = train_until(objective, state, settings, index, epoch=10**6).point[0]
        # Training alone ends so far above the minimum that a curve between two ends meets no barrier.
        polish = init_polish(objective, trained)
        points.append(advance_polish(objective, polish, iterations=POLISH).point)
    for number, (start, end) in enumerate(itertools.pairwise(points)):
        yield Case("minibatches", f"{number}–{number + 1}", objective, start, end)


def truth(count: int, examples: int = 0) -> Iterator[Case]:
    """Pairs of minima of small networks that a known saddle joins, with a path known to be the lowest."""
    del examples
    cases = itertools.chain.from_iterable(map(_known, (tanh_regression, xor, iris)))
    yield from itertools.islice(cases, count)


def _known(make: Callable[[], Landscape]) -> Iterator[Case]:
    landscape = make()
    assert landscape.barcode and landscape.saddles is not None and landscape.saddle_ends is not None
    deaths = {death for _, death in landscape.barcode}
    losses = landscape.objective.losses(landscape.saddles)
    for number, loss in enumerate(losses.tolist()):
        if any(abs(loss - death) < 1e-9 for death in deaths):
            start, end = landscape.saddle_ends[number]
            name = f"{make.__name__} {loss:.4f}"
            yield Case("truth", name, landscape.objective, start, end, loss)


def teacher(count: int, examples: int = 0) -> Iterator[Case]:
    """Minima of teacher–student networks, and the lowest passes known between them."""
    del examples
    cases = (
        Case(
            "teacher",
            f"k = {k}, {i}–{j}",
            landscape.objective,
            landscape.minima[i],
            landscape.minima[j],
            lowest,
        )
        for k in (7, 8, 10)
        for landscape in [teacher_student(k)]
        for (i, j), lowest in landscape.passes.items()
    )
    yield from itertools.islice(cases, count)


# Numbers of random starts whose polished ends are far from the origin (2, 7, 37) or near it, and the pairs.
_FAR_OUT = (
    (0, 37),
    (0, 2),
    (1, 37),
    (25, 37),
    (11, 25),
    (2, 7),
    (37, 7),
    (30, 37),
    (39, 0),
    (39, 37),
)


def unregularised(count: int, examples: int = 0) -> Iterator[Case]:
    """`count` pairs of minima of a regression with seven parameters and no ridge."""
    del examples
    inputs = torch.linspace(-torch.pi, torch.pi, 101, dtype=torch.float64)
    wanted = -0.31 * inputs.sin() + 0.72 * (2 * inputs).sin()
    wanted = wanted - 0.21 * inputs.cos() + 0.89 * (2 * inputs).cos()

    def loss(points: Tensor) -> Tensor:
        weight, bias, out, shift = points.split([2, 2, 2, 1], dim=1)
        units = torch.tanh(inputs[:, None] * weight[:, None, :] + bias[:, None, :])
        outputs = (units * out[:, None, :]).sum(-1) + shift
        return (outputs - wanted).square().mean(1)

    objective = from_function(loss, 7)
    draw = torch.Generator().manual_seed(0)
    starts = [2 * torch.randn(7, generator=draw, dtype=torch.float64) for _ in range(40)]
    pairs = _FAR_OUT[:count]
    ends = {
        number: polish_minimum(objective, starts[number]).point
        for number in sorted({number for pair in pairs for number in pair})
    }
    for one, other in pairs:
        yield Case("unregularised", f"{one}–{other}", objective, ends[one], ends[other])


LANDSCAPES: dict[str, Callable[..., Iterator[Case]]] = {
    "digits": digits,
    "noisy": noisy,
    "minibatches": minibatches,
    "pooled": pooled,
    "truth": truth,
    "teacher": teacher,
    "unregularised": unregularised,
}
PAIRS = {
    "digits": 10,
    "noisy": 6,
    "minibatches": 6,
    "pooled": 10,
    "truth": 99,
    "teacher": 99,
    "unregularised": 10,
}
