"""How often Ray has restarted actors, and where.

Ray restarts an actor whose process ends while it starts, again and again, and reports nothing: calls of the
actor stay pending. Only the number of restarts in Ray's table of actors shows it.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.actor import ActorHandle

from orchestrator.cluster.members import Member

PROCESS_ENDED = (
    "its process ended, for example because memory, a library or a driver is missing; the logs of Ray on "
    "that machine may tell (/tmp/ray/session_latest/logs)"
)
"""Why a start failed that raised no error."""


@dataclass(frozen=True)
class ActorStarts:
    """How often an actor was restarted, and Ray's identifier of the node of its last start."""

    restarts: int
    node: str


def starts_of_actors() -> Mapping[str, ActorStarts]:
    """The starts of those actors of this driver that Ray is restarting now, by identifier of the actor.

    An actor that ends while it starts is in this state all the time.

    Ray has only a private function for this that works without a dashboard. If it is missing or fails, the
    result is empty.
    """
    with contextlib.suppress(Exception):
        job = ray.JobID(bytes.fromhex(ray.get_runtime_context().get_job_id()))
        table = ray._private.state.actors(job_id=job, actor_state_name="RESTARTING")
        return {
            key: ActorStarts(int(entry["NumRestarts"]), str(entry["Address"]["NodeID"]))
            for key, entry in table.items()
        }
    return {}


def identifier(handle: ActorHandle) -> str:
    """The identifier of an actor in `starts_of_actors`."""
    return str(handle._actor_id.hex())


def hosts_of_nodes() -> Mapping[str, str]:
    """Name of the machine of each node that is alive, by Ray's identifier of the node."""
    return {n["NodeID"]: n["NodeManagerHostname"] for n in ray.nodes() if n["Alive"]}


def ended_starts(starting: Sequence[Member]) -> Iterator[tuple[Member, str, int]]:
    """Find workers whose process has ended while they started, since the last call.

    Args:
        starting: the workers that have not joined; `restarts` of each is updated.

    Yields:
        The worker, the name of the machine, and how often. A start whose node has left is none.
    """
    table = starts_of_actors() if starting else {}
    for member in starting:
        now = table.get(identifier(member.handle))
        if now is None:
            continue
        before, member.restarts = member.restarts, now.restarts
        times = 0 if before is None else now.restarts - before
        if times and (host := hosts_of_nodes().get(now.node)) is not None:
            yield member, host, times
