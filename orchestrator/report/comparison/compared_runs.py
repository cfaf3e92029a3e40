"""The runs of a comparison, with the sizes of their networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from workers.tasks.specs import NetworkSpec

_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of the names of batch-norm buffers, which are in a state dict but are not parameters."""


@dataclass(frozen=True)
class Compared:
    """One run of a comparison.

    Attributes:
        label: name of the run, or the URL of its store if several runs have the same name.
        run: the run.
        landscape: its results.
        depth: number of hidden layers; None if the name and options of the network do not state it.
        width: number of units or channels of the widest hidden layer; None if they do not state it.
        parameters: number of trained scalars.
    """

    label: str
    run: StartedRun
    landscape: Landscape
    depth: int | None
    width: int | None
    parameters: int | None

    @property
    def network(self) -> NetworkSpec:
        spec: NetworkSpec = self.run.plan.run.network
        return spec

    @property
    def score(self) -> float:
        """TO-score by the elder rule."""
        return self.landscape.to_scores["elder"]


def compared(runs: Sequence[StartedRun]) -> list[Compared]:
    """Read the results of several runs for a comparison.

    Raises:
        UserError: there are fewer than two runs, or a run has no minimum yet.
    """
    if len(runs) < 2:
        raise UserError("One run cannot be compared: name two or more.")
    names = [run.plan.run.name for run in runs]
    result = []
    for run, name in zip(runs, names, strict=True):
        label = name if names.count(name) == 1 else run.store.objects.url
        landscape = run.landscape()
        if not landscape.minima:
            raise UserError(f"{label} has no minimum yet: leave it out, or let it run first.")
        depth, width = size_of(run.plan.run.network)
        result.append(Compared(label, run, landscape, depth, width, _parameters(run, landscape)))
    return result


def size_of(network: NetworkSpec) -> tuple[int | None, int | None]:
    """Depth and width that the name and options of a network state; None for each that they do not state."""
    match network.name:
        case "fc":
            hidden = tuple(network.option("hidden", (32, 32)))
            return len(hidden), max(hidden, default=0)
        case "cnn1" | "cnn2" | "cnn3":
            return int(network.name[-1]), int(network.option("channels", 32))
        case "transformer":
            return network.option("layers", None), network.option("width", None)
    return None, None


def _parameters(run: StartedRun, landscape: Landscape) -> int:
    first = min(landscape.minima)
    state = run.store.read_minimum(landscape.minima[first].object)
    return sum(t.numel() for name, t in state.items() if not name.endswith(_NOT_TRAINED))
