"""The `toscore` command, called in this process: its exit code and what it printed."""

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from orchestrator.cli import main


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str


def toscore(*arguments: object) -> Said:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["toscore", *map(str, arguments)]),
        mock.patch.object(sys, "path", list(sys.path)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
    return Said(code, out.getvalue(), err.getvalue())
