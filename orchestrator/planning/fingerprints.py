"""What the names in a run file stand for: the data, the code and the files are looked at once."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.planning.plan import Identity
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import RunFile
from workers.problems.user_code import BadReference

if TYPE_CHECKING:
    from workers.problems.data_sets import Dataset


def identify(run: RunFile) -> Identity:
    """Hash what a run depends on.

    Raises:
        BadRunFile: a name stands for nothing, or a file is missing.
    """
    return identify_and_load(run)[0]


def identify_and_load(run: RunFile) -> tuple[Identity, "Dataset"]:
    """As `identify`, with the data that it had to load for that.

    Raises:
        BadRunFile: a name stands for nothing, or a file is missing.
    """
    # Imported here: for `checkpoint_contents` alone nobody has to wait for torch.
    from workers.problems.data_sets import load_dataset
    from workers.problems.networks import network_fingerprint

    try:
        data = load_dataset(run.data)
        network = network_fingerprint(run.network)
    except BadReference as error:
        raise BadRunFile(str(error)) from None
    return Identity(data.fingerprint, network, checkpoint_contents(run)), data


def checkpoint_contents(run: RunFile) -> tuple[str, ...]:
    """SHA-256 of each of the checkpoints in `minima.from`.

    Raises:
        BadRunFile: one cannot be read.
    """
    return tuple(_content(location) for location in run.minima.from_)


def _content(location: str) -> str:
    try:
        return hashlib.sha256(Path(location).read_bytes()).hexdigest()
    except OSError as error:
        raise BadRunFile(
            f"minima.from names {location}, which cannot be read ({error.strerror}): "
            "check the path, which is relative to the run file."
        ) from None
