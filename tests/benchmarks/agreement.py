"""Fifty steps of `paper` against the literal loop: how far the points are apart at the end.

python -m tests.benchmarks.agreement
"""

import copy

import torch

from tests.benchmarks import literal
from topo_core.objective import Step
from topo_core.settings import PathSettings
from topo_core.stacked import ModuleObjective, possible_strategies
from topo_core.walk import advance, init
from workers.networks import build
from workers.specs import NetworkSpec

STEPS, BATCHES = 50, 5
GOALS = {torch.float64: 1e-12, torch.float32: 1e-5}
NETWORKS = {
    "fc": ({"name": "fc"}, (1, 28, 28), 64, 9),
    "cnn2": ({"name": "cnn2", "channels": 8}, (1, 28, 28), 16, 5),
    "cnn2 with batch norm": (
        {"name": "cnn2", "channels": 8, "batch_norm": True},
        (1, 28, 28),
        16,
        5,
    ),
}


def distance(network: str, strategy: str, dtype: torch.dtype) -> float:
    """Largest distance of a point from that of the loop, relative to how far the loop moved it."""
    spec, shape, batch, points = NETWORKS[network]
    draw = torch.Generator().manual_seed(2)
    x = torch.randn(batch * BATCHES, *shape, generator=draw, dtype=torch.float64).to(dtype)
    y = torch.randint(10, (len(x),), generator=draw)
    module = build(NetworkSpec.parse(spec), shape, 10).to(dtype)
    objective = ModuleObjective(copy.deepcopy(module), x, y, batch_size=batch, strategy=strategy)
    path = literal.straight(objective, module, points)
    epochs = STEPS // BATCHES
    settings = PathSettings(
        points=points, force="paper", epochs=epochs, evaluate_every=epochs, heights="paper"
    )
    found = advance(objective, init(objective, path, settings), settings, 7, until_epoch=epochs)
    expected = list(path)
    for number in range(STEPS):
        step = Step(7, *divmod(number, BATCHES))
        rate = settings.resolve(BATCHES).optimizer.lr
        literal.step(module, expected, *objective.minibatch(step), rate, settings.l2)
    after = torch.stack(expected)
    moved = (after - path)[1:-1].norm(dim=1)
    return float(((found.points - after)[1:-1].norm(dim=1) / moved).max())


def main() -> dict[tuple[str, str, str], float]:
    """Print a row for each network, strategy and precision; the distances."""
    print("| network | strategy | precision | distance over distance moved | goal |")
    print("|---|---|---|---|---|")
    found = {}
    for network, (spec, shape, *_) in NETWORKS.items():
        for strategy in possible_strategies(build(NetworkSpec.parse(spec), shape, 10)):
            for dtype, goal in GOALS.items():
                name = str(dtype).removeprefix("torch.")
                found[network, strategy, name] = distance(network, strategy, dtype)
                print(
                    f"| {network} | {strategy} | {name} "
                    f"| {found[network, strategy, name]:.1e} | {goal:.0e} |",
                    flush=True,
                )
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
