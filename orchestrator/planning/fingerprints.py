"""Hashes the data, the code and the files that a run file names."""

from typing import TYPE_CHECKING

from orchestrator.planning.plan import Identity
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import RunFile
from workers.problems.shards import content_of
from workers.problems.user_code import BadReference

if TYPE_CHECKING:
    from workers.problems.dataset import Dataset


def identify(run: RunFile) -> Identity:
    """Compute the hashes of all that the results of a run depend on.

    Raises:
        BadRunFile: a name is unknown, a file is missing, or data differ between two loads.
    """
    return identify_and_load(run)[0]


def identify_and_load(run: RunFile) -> tuple[Identity, "Dataset"]:
    """As `identify`, but also return the data, which have to be loaded for hashing.

    Raises:
        BadRunFile: a name is unknown, a file is missing, or data differ between two loads.
    """
    # Imported here: `checkpoint_contents` does not need torch, whose import is slow.
    from workers.problems.loaded_problem import DTYPES
    from workers.problems.loss_functions import loss_fingerprint
    from workers.problems.networks import network_fingerprint
    from workers.problems.reproducibility import fixed_state_of, load_twice

    try:
        data = load_twice(run.data)
        network = network_fingerprint(run.network)
        loss = loss_fingerprint(run.loss)
        contents = checkpoint_contents(run)
        dtype = DTYPES[run.dtype]
        fixed = fixed_state_of(run.network, run.loss, data, run.minima.checkpoints, dtype)
    except BadReference as error:
        raise BadRunFile(str(error)) from None
    return Identity(data.fingerprint, network, contents, loss, fixed), data


def checkpoint_contents(run: RunFile) -> tuple[str, ...]:
    """SHA-256 of the content of each checkpoint that a run reads, in the order of the run file.

    Raises:
        BadRunFile: a checkpoint cannot be read, or two have the same content.
    """
    locations = run.minima.checkpoints
    contents = tuple(_content(location) for location in locations)
    first: dict[str, str] = {}
    for location, content in zip(locations, contents, strict=True):
        if content in first:
            same = first[content] == location
            twice = f"{location} twice" if same else f"{first[content]} and {location}, one content"
            raise BadRunFile(f"minima.from names {twice}: name each minimum once.")
        first[content] = location
    return contents


def _content(location: str) -> str:
    try:
        return content_of(location)
    except BadReference as error:
        raise BadRunFile(str(error)) from None
    except OSError as error:
        if "://" in location:
            raise BadRunFile(
                f"minima.from names {location}: download it and name the file, for checkpoints are read from "
                "disks alone."
            ) from None
        shard = error.filename is not None and str(error.filename) != location
        named = f"{location} with the shard {error.filename}" if shard else location
        raise BadRunFile(
            f"minima.from names {named}, which cannot be read ({error.strerror}): "
            "check the path, which is relative to the run file."
        ) from None
