"""The runs that are compared, and the sizes of their networks."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.analysis.landscape import Landscape
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from workers.tasks.specs import NetworkSpec

_NOT_TRAINED = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        label: what it is called here.
        depth: hidden layers, where the network has that many by its name or options.
        width: units or channels of its widest hidden layer, likewise.
        parameters: trained scalars; None while there is no minimum to count them in.
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
    """The runs, with the sizes of their networks where they are known.

    Raises:
        UserError: fewer than two runs, or one without a single minimum.
    """
    if len(runs) < 2:
        raise UserError("One run cannot be compared: name two or more.")
    names = [run.plan.run.name for run in runs]
    found = []
    for run, name in zip(runs, names, strict=True):
        label = name if names.count(name) == 1 else run.store.objects.url
        landscape = run.landscape()
        if not landscape.minima:
            raise UserError(f"{label} has no minimum yet: leave it out, or let it run first.")
        depth, width = size_of(run.plan.run.network)
        found.append(Compared(label, run, landscape, depth, width, _parameters(run, landscape)))
    return found


def size_of(network: NetworkSpec) -> tuple[int | None, int | None]:
    """Depth and width as a network's name and options state them; None for what they do not state."""
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
