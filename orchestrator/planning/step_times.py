"""Durations of the steps of a problem on this machine, timed once and cached for the next `toscore plan`.

The import of torch alone takes seconds, so a plan that has to time a sample is slow. A sample is kept in the
user's cache folder. The name of its file is a hash of all that it depends on: network, data, sizes of
minibatches and paths, the machine, and the versions of torch and of this program. User code may change at any
time, so a sample of it is never cached.
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
class ProblemSizes:
    """Sizes of the network and the data of a run.

    Attributes:
        parameters: number of parameters of the network.
        examples: number of examples in the training set.
        data_bytes: size of the data.
        mapped: whether the data are in a memory-mapped file.
        device_free_bytes: free memory of the GPU of this machine; None without a GPU.
    """

    parameters: int
    examples: int
    data_bytes: int
    mapped: bool
    device_free_bytes: int | None


@dataclass(frozen=True)
class StepTimes:
    """Sizes of a problem, and durations of its steps in seconds on one worker with one thread.

    Attributes:
        sizes: of the network and the data.
        path_step: duration of a step of a path: the gradients at all moving points on a minibatch.
        curve_step: duration of a step of a trained curve: the gradient at one point on a minibatch of a path.
        path_losses: duration of the loss of one point over the training set.
        training_steps: duration of a training step, by the size of the minibatch.
        timed_at: time of the measurement, ISO 8601.
    """

    sizes: ProblemSizes
    path_step: float
    curve_step: float
    path_losses: float
    training_steps: Mapping[int, float]
    timed_at: str


def cached_step_times(run: RunFile) -> StepTimes | None:
    """The cached sample of the same problem on this machine; None if there is none or it cannot be read."""
    if _users_code(run):
        return None
    try:
        known = json.loads(_file(run).read_text("utf-8"))
        steps = {int(size): seconds for size, seconds in known.pop("training_steps").items()}
        sizes = ProblemSizes(**known.pop("sizes"))
        return StepTimes(**known, sizes=sizes, training_steps=steps)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, AttributeError):
        return None


def cache_step_times(run: RunFile, sample: StepTimes) -> None:
    """Write a sample to the cache; do nothing for user code, or if the cache is not writable."""
    if _users_code(run):
        return
    with contextlib.suppress(OSError, RuntimeError):  # disk full, no permission, or no home folder
        file = _file(run)
        beside = file.with_suffix(f".{secrets.token_hex(4)}")
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(asdict(sample)), "utf-8")
        os.replace(beside, file)


def _users_code(run: RunFile) -> bool:
    """Whether network or data come from outside this program: `module:callable`, or torchvision."""
    return ":" in run.network.name or ":" in run.data.name


def _file(run: RunFile) -> Path:
    """The file of a run's sample in the cache."""
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
