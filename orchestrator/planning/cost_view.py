"""Formats the estimated cost of a run for a terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.planning.cost import Cost
from orchestrator.planning.disk_space import human_bytes
from orchestrator.telemetry.durations import human_seconds
from workers.problems.data_placement import Placement


def estimate_view(cost: Cost) -> RenderableType:
    """A table of the estimate; its heading is the name and the location of the run."""
    table = Table.grid(padding=(0, 2))
    table.add_row("minima", f"{cost.minima:,}", f"{cost.minimum_epochs:,} epochs")
    bound = "at most " if cost.adaptive else ""
    # An upper bound: the optimisation stops early once a path is no higher than the higher of its two ends.
    table.add_row("paths", f"{bound}{cost.paths:,}", f"at most {cost.path_epochs:,} epochs")
    if cost.simplices:
        terms = " + ".join(f"C({cost.minima}, {size})" for size in cost.simplex_sizes)
        table.add_row("simplices", f"{cost.simplices:,}", terms)
    table.add_row("parameters", f"{cost.parameters:,}", "of one network")
    table.add_row("data", human_bytes(cost.data.data_bytes), _where_data_lie(cost.data))
    whole = "" if cost.not_counted else "at most "
    table.add_row(
        "gradients", f"{whole}{cost.gradient_evaluations:.3g}", "of one point on one minibatch"
    )
    if cost.device_seconds is not None:
        each = f"{human_seconds(cost.seconds_per_path or 0)} a path on one worker here "
        each += f"({(cost.timed_at or '')[:10]})"
        table.add_row("time", f"{whole}{human_seconds(cost.device_seconds)}", each)
    for number, part in enumerate(cost.not_counted):
        table.add_row("" if number else "not counted", "", part)
    free = f"{human_bytes(cost.free_bytes)} free" if cost.free_bytes is not None else ""
    table.add_row("store", human_bytes(cost.store_bytes), free)
    table.add_row("requests", f"{cost.store_requests:,}", "to the store")
    return Group(Text(f"{cost.run} → {cost.location}", style="bold"), table)


def _where_data_lie(data: Placement) -> str:
    """A clause on streamed data; empty for data that are in the memory of the device."""
    if not data.streamed:
        return ""
    from topo_core.objectives.minibatches import CHUNK  # imports torch, which is slow

    stay = "stay in their memory-mapped file" if data.mapped else "stay on the host"
    free = ""
    if data.free_bytes is not None:
        free = f"; {human_bytes(data.free_bytes)} of the device are free"
    return f"{stay}{free}: streamed in chunks of {CHUNK:,} examples"
