"""Packs of paths on a GPU against the literal loop on the same GPU, and what the ResNet study would cost.

    python -m tests.benchmarks.gpu                       # all rows; needs torch alone
    python -m tests.benchmarks.gpu fc cnn2               # some
    python -m tests.benchmarks.gpu --precision tf32      # gradients in TF32; the loop stays in float32
    python -m tests.benchmarks.gpu --strategy channels_last_graph resnet     # one strategy
    python -m tests.benchmarks.gpu --device cpu --tiny   # that it runs; the figures mean nothing

A step is all of it: gradients of 17 points of every path, each path on its own minibatch, projection,
displacement, redistribution. The loop optimises one path; p paths take it p times as long. Measurements
alternate, medians are compared, and the device is waited for. FLOPs are counted on the network: two for each
product of a forward pass, as many again for either gradient, none for the gradient of the images.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tests.benchmarks import literal
from tests.benchmarks.speed import machine
from tests.benchmarks.workloads import endless
from topo_core.objectives.batching.registry import STRATEGIES
from topo_core.objectives.network_loss import ModuleObjective
from topo_core.objectives.precision import arithmetic
from topo_core.objectives.protocol import Step
from topo_core.paths.settings import PathSettings
from topo_core.paths.solver import PathSolver
from topo_core.paths.state import PathState
from topo_core.paths.update_settings import OptimizerSettings
from workers.problems.evaluation import Evaluation, prepare_process
from workers.problems.networks import build
from workers.tasks.specs import NetworkSpec

ENDLESS = 1_000_000  # epochs: no measurement of heights falls into what is timed

PEAKS = {  # TFLOP/s of the vendor's data sheets, dense: float32 without tensor cores, TF32, bf16
    "H100 PCIe": (51.2, 378.0, 756.0),
    "H100": (66.9, 494.7, 989.4),
    "H200": (66.9, 494.7, 989.4),
    "A100": (19.5, 156.0, 312.0),
    "L40S": (91.6, 183.0, 362.0),
    "L4": (30.3, 60.0, 121.0),
}


@dataclass(frozen=True)
class Row:
    """What is timed: a network, the shape of an example, and the size of a pack."""

    what: str
    network: dict[str, object]
    shape: tuple[int, ...]
    paths: int
    batch: int
    batches: int  # minibatches in what is timed
    goal: float
    points: int = 17

    def tiny(self) -> "Row":
        small = {"fc": {}, "cnn2": {"channels": 2}, "resnet": {"channels": 2}}
        network = {**self.network, **small[str(self.network["name"])]}
        shape = (self.shape[0], 16, 16)
        return replace(self, network=network, shape=shape, paths=2, batch=4, batches=1, points=2)


ROWS = {
    "fc": Row("FC 784-32-32-10, 45 paths, batch 256", {"name": "fc"}, (1, 28, 28), 45, 256, 8, 100),
    "cnn2": Row(
        "CNN-2-32, 28x28, 8 paths, batch 256",
        {"name": "cnn2", "channels": 32},
        (1, 28, 28),
        8,
        256,
        2,
        3,
    ),
    "resnet": Row(
        "ResNet 195k, 32x32x3, 8 paths, batch 256", {"name": "resnet"}, (3, 32, 32), 8, 256, 2, 3
    ),
}


@dataclass(frozen=True)
class Study:
    """The paths of Figure 5 on one data set, at full size (Tables D.5, D.6)."""

    what: str
    images: int
    batch: int
    epochs: int
    minima: int
    runs: int  # types of training
    points: int = 17
    every: int = 10  # epochs between two measurements of a height

    @property
    def paths(self) -> int:
        return self.runs * self.minima * (self.minima - 1) // 2


STUDIES = {
    "fig5-cifar10": Study("Table D.5, CIFAR10", 50_000, 150, 300, 8, 2),
    "fig5-svhn": Study("Table D.6, SVHN", 73_257, 256, 200, 8, 2),
}


class Pack:
    """A row on a device: the literal loop on one path, and p paths in lockstep."""

    def __init__(self, row: Row, device: str, strategy: str, precision: str) -> None:
        draw = torch.Generator().manual_seed(1)
        count = row.batch * row.batches
        x = torch.randn(count, *row.shape, generator=draw).to(device)
        y = torch.randint(10, (count,), generator=draw).to(device)
        self.row, self.device = row, device
        self.module = build(NetworkSpec.parse(row.network), row.shape, 10).to(device)
        self.objective = ModuleObjective(
            copy.deepcopy(self.module),
            x,
            y,
            batch_size=row.batch,
            strategy=strategy,
            precision=precision,
        )
        self.points = literal.straight(self.objective, self.module, row.points + 2)
        self.path = list(self.points)
        self.settings = PathSettings(
            points=row.points + 2,
            start="line",
            epochs=ENDLESS,
            evaluate_every=ENDLESS,
            heights="paper",
            optimizer=OptimizerSettings("sgd", lr=1e-3),
        )
        self.seeds = list(range(row.paths))
        self.states: list[PathState] | None = None

    def literal(self) -> None:
        """An epoch of one path, point after point."""
        with arithmetic("float32", torch.device(self.device)):
            for number in range(self.objective.batches):
                x, y = self.objective.minibatch(Step(0, 0, number))
                literal.step(self.module, self.path, x, y, 1e-3, 1e-5)

    def together(self) -> None:
        """An epoch of all paths."""
        solver = PathSolver(self.objective, self.settings)
        if self.states is None:
            start = endless(solver.begin(self.points))
            self.states = [start] * self.row.paths
        until = self.states[0].epoch + 1
        self.states = solver.advance_together(self.states, self.seeds, until_epoch=until)

    def apart(self) -> float:
        """Largest distance of a gradient of the pack from the loop's, relative to its length."""
        moving = self.points[1:-1].expand(self.row.paths, -1, -1)
        steps = [Step(seed, 0, 0) for seed in self.seeds]
        found = self.objective.gradients_of_paths(moving, steps)[1]
        worst = 0.0
        for path in (0, self.row.paths - 1):
            x, y = self.objective.minibatch(steps[path])
            for point in (0, len(moving[0]) - 1):
                with arithmetic("float32", torch.device(self.device)):
                    expected = literal.gradient(self.module, moving[path, point], x, y)
                gap = (found[path, point] - expected).norm() / expected.norm()
                worst = max(worst, float(gap))
        return worst

    def seconds(self, work: Callable[[], object]) -> float:
        """Wall time of one call, to its last kernel."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - started


def flops(module: nn.Module, example: Tensor) -> int:
    """Of the loss and the gradient of one example [1, ...] with respect to the parameters."""
    products: list[int] = []

    def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            products.append(output[0].numel() * layer.weight[0].numel())
        elif isinstance(layer, nn.Linear):
            products.append(layer.weight.numel())

    handles = [layer.register_forward_hook(count) for layer in module.modules()]
    with torch.no_grad():
        module.eval()(example)
    module.train()
    for handle in handles:
        handle.remove()
    return 2 * (3 * sum(products) - products[0])


def peak(device: str, precision: str) -> float | None:
    """FLOP/s of the vendor's data sheet; None for a device that is not in the table."""
    if device == "cpu":
        return None
    name = torch.cuda.get_device_name()
    column = {"float32": 0, "tf32": 1, "bf16": 2}[precision]
    for known, values in PEAKS.items():
        if all(part in name for part in known.split()):
            return 1e12 * values[column]
    return None


def compare(row: Row, options: argparse.Namespace) -> float:
    """Print the lines of a row, one a strategy; the best ratio against the loop."""
    device, repeats = options.device, 1 if options.tiny else 5
    module = build(NetworkSpec.parse(row.network), row.shape, 10)
    each = flops(module, torch.zeros(1, *row.shape))
    best = 0.0
    for strategy in literal.offered(module, row.shape, device, options.precision):
        if strategy == "literal" or options.strategy not in (None, strategy):
            continue  # the loop is what the others are compared with
        try:
            pack = Pack(row, device, strategy, options.precision)
            apart = pack.apart()
            pack.together(), pack.literal()  # the first time is not typical
        except RuntimeError as error:
            print(f"| {row.what} | {strategy} | {str(error).splitlines()[0]} |", flush=True)
            continue
        ours, theirs = [], []
        for _ in range(repeats):
            theirs.append(row.paths * pack.seconds(pack.literal))
            ours.append(pack.seconds(pack.together))
        loop, packed = statistics.median(theirs), statistics.median(ours)
        work = each * row.paths * row.points * row.batch * row.batches
        top = peak(device, options.precision)
        share = "" if top is None else f"{work / packed / top:.1%}"
        best = max(best, loop / packed)
        print(
            f"| {row.what} | {strategy} | {1e3 * loop / row.batches:.2f} "
            f"| {1e3 * packed / row.batches:.2f} | {loop / packed:.1f} | {row.goal:g} "
            f"| {1e-12 * work / packed:.2f} | {share} | {apart:.1e} |",
            flush=True,
        )
        del pack  # and the memory of its graphs
        if device != "cpu":
            torch.cuda.empty_cache()
    return best


def project(study: Study, options: argparse.Namespace) -> float:
    """Print the throughput of a study's path steps, and its GPU-hours; these hours."""
    row = replace(ROWS["resnet"], batch=study.batch, points=study.points, batches=4)
    images = 5000
    if options.tiny:
        row, images = row.tiny(), 4
    on_cpu = options.device == "cpu"
    strategy = options.strategy or ("channels_last" if on_cpu else "channels_last_graph")
    pack = Pack(row, options.device, strategy, options.precision)
    pack.settings = replace(pack.settings, force="paper", redistribute_every=0)
    pack.together()
    repeats = 1 if options.tiny else 3
    step = statistics.median(pack.seconds(pack.together) for _ in range(repeats)) / row.batches
    epoch = step / row.paths * -(-study.images // study.batch)
    measured, points = _height(pack, images)
    height = measured * study.images / images
    optimised = study.paths * study.epochs * epoch
    heights = study.paths * (study.epochs // study.every + 1) * height
    hours = (optimised + heights) / 3600
    print(
        f"| {study.what} | {strategy} | {1 / epoch:.3g} | {1e3 * step / row.paths:.3g} "
        f"| {height:.3g} ({points} points) | {study.paths} x {study.epochs} | {hours:.3g} |",
        flush=True,
    )
    return hours


def _height(pack: Pack, images: int) -> tuple[float, int]:
    """Seconds of one adaptive height over so many images, and at how many points it evaluated the loss."""
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(images, *pack.row.shape, generator=draw).to(pack.device)
    y = torch.randint(10, (images,), generator=draw).to(pack.device)
    objective = ModuleObjective(
        copy.deepcopy(pack.module), x, y, batch_size=images, strategy=pack.objective.strategy
    )
    settings = replace(pack.settings, heights="adaptive")
    solver = PathSolver(objective, settings)
    points = solver.measure(pack.points).evaluations
    return pack.seconds(lambda: solver.measure(pack.points)), points


def main(arguments: Sequence[str] | None = None) -> dict[str, float]:
    """Print the tables; the best ratio, or the hours, by row."""
    options = _options(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "There is no CUDA device here: nothing was measured. "
            "(--device cpu --tiny shows that the command runs.)"
        )
        return {}
    prepare_process(
        Evaluation()
    )  # as a worker; cuDNN's algorithms do not depend on what it times, then
    device = "CPU" if options.device == "cpu" else torch.cuda.get_device_name()
    if options.tiny:
        print("Tiny sizes, whatever the rows say: the figures mean nothing.")
    print(f"{device}, gradients in {options.precision}; {machine()}\n")
    found = {}
    rows = [name for name in options.rows or (*ROWS, *STUDIES) if name in ROWS]
    studies = [name for name in options.rows or (*ROWS, *STUDIES) if name in STUDIES]
    if rows:
        print(
            "| what | strategy | literal ms a step | packed ms a step | ratio | goal | TFLOP/s "
            "| of peak | gradients apart |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
    for name in rows:
        row = ROWS[name].tiny() if options.tiny else ROWS[name]
        found[name] = compare(row, options)
    if studies:
        print(
            "\n| paths of Figure 5, without training | strategy | path-epochs a second "
            "| ms a path-step | s a height | paths x epochs | GPU-hours |"
        )
        print("|---|---|---|---|---|---|---|")
    for name in studies:
        found[name] = project(STUDIES[name], options)
    return found


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join((*ROWS, *STUDIES)))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", choices=("float32", "tf32", "bf16"), default="float32")
    parser.add_argument(
        "--strategy",
        choices=sorted(STRATEGIES),
        help="only this one; of a study, instead of channels_last_graph",
    )
    parser.add_argument("--tiny", action="store_true", help="sizes that mean nothing")
    options = parser.parse_args(arguments)
    unknown = set(options.rows) - {*ROWS, *STUDIES}
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    main()
