"""Durations of the steps of a problem on this machine: timed once, and kept for the next `plan`.

The import of torch alone takes seconds, so a plan that times a sample cannot answer at once. A sample is kept
in the user's cache under everything that decides it: network, data, sizes of minibatches and paths, the
machine, and the versions of torch and of this program. For a user's own code, which may change at any time, a
sample is timed whenever it is asked for.
"""

import contextlib
import json
import os
import platform
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from orchestrator.run_file.models import RunFile
from workers.tasks.keys import digest


@dataclass(frozen=True)
class Sample:
    """Sizes of a problem, and seconds on one worker of one thread.

    Attributes:
        parameters: of the network.
        examples: of the training set.
        path_step: of a step of a path: gradients at all its moving points on a minibatch.
        curve_step: of a step of a trained curve: the gradient at one point on such a minibatch.
        path_losses: of the loss of one point over the training set.
        training_steps: of a step of training, by the size of the minibatches.
        timed_at: when, ISO 8601.
    """

    parameters: int
    examples: int
    path_step: float
    curve_step: float
    path_losses: float
    training_steps: Mapping[int, float]
    timed_at: str


def remembered(run: RunFile) -> Sample | None:
    """The sample of the same problem on this machine; None if there is none or it cannot be read."""
    if _users_code(run):
        return None
    try:
        known = json.loads(_file(run).read_text("utf-8"))
        steps = {int(size): seconds for size, seconds in known.pop("training_steps").items()}
        return Sample(**known, training_steps=steps)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(run: RunFile, sample: Sample) -> None:
    """Keep a sample for the next time, if the cache can be written to."""
    if _users_code(run):
        return
    with contextlib.suppress(OSError, RuntimeError):  # disk full, no permission, or no home folder
        file = _file(run)
        beside = file.with_suffix(f".{secrets.token_hex(4)}")
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(asdict(sample)), "utf-8")
        os.replace(beside, file)


def _users_code(run: RunFile) -> bool:
    """Whether the network or the data is not ours alone: `module:callable`, or torchvision's."""
    return ":" in run.network.name or ":" in run.data.name


def _file(run: RunFile) -> Path:
    decided_by = digest(
        run.network.canonical(),
        run.data.canonical(),
        run.paths.batch_size,
        run.paths.points,
        sorted({training.batch_size for training in run.minima.every_training}),
        (platform.node(), platform.machine(), os.cpu_count()),
        (version("torch"), version("toscore")),
    )
    return Path.home() / ".cache" / "toscore" / "samples" / f"{decided_by}.json"
