"""Writes files that a user has asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.run_file.errors import UserError


@contextmanager
def writing_to(out: Path) -> Iterator[None]:
    """Context that turns an OSError into a UserError saying that `out` cannot be written to."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Nothing can be written to {out} ({error.strerror}): name another folder with --out."
        ) from None


def replace_file(file: Path, data: bytes) -> None:
    """Write a file atomically: a reader sees the old file or the whole new one."""
    beside = file.with_name(file.name + ".part")
    beside.write_bytes(data)
    beside.replace(file)
