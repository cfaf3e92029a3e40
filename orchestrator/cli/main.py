"""The `toscore` command. Errors of the user or the machine are one sentence, with exit code 2."""

import codecs
import contextlib
import errno
import io
import os
import sys
import unicodedata
from typing import NoReturn

from orchestrator.cli import listing, reading, starting
from orchestrator.cli.app import app
from orchestrator.scheduling.exit_codes import ExitCode

COMMANDS = (starting, reading, listing)
"""The modules whose import adds the commands to the application."""

_PLAIN = {
    **dict(zip("–—━─│┃▶→×·‘’“”", "----||>>x.''" + '""', strict=True)),
    "±": "+/-",
    "≥": ">=",
    "≤": "<=",
    "…": "...",
    "∞": "inf",
    "λ": "lambda",
    "θ": "theta",
}
"""Replacements of characters for an output without Unicode; others lose their accent, or become `?`."""


def main() -> None:
    """Run the command that argv names, and exit."""
    _open_missing_streams()
    _tolerate_encodings()
    if (
        os.environ.get("COLUMNS") == "0"
    ):  # set by terminals of some editors; rich would print nothing
        del os.environ["COLUMNS"]
    from orchestrator.run_file.errors import TryAgain, UserError
    from orchestrator.run_file.extras import missing_extra

    try:
        try:
            _check_current_folder()
            app()
        finally:
            _flush()
    except TryAgain as error:
        _leave(str(error), ExitCode.UNREACHABLE)
    except UserError as error:
        _leave(str(error))
    except KeyboardInterrupt:
        _leave("Interrupted.", ExitCode.INTERRUPTED)
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # the framework leaves with 1
            os._exit(ExitCode.CLOSED_PIPE)
        raise
    except BrokenPipeError:
        os._exit(ExitCode.CLOSED_PIPE)
    except ModuleNotFoundError as error:
        sentence = missing_extra(error, " ".join(["toscore", *_command()]))
        if sentence is None:
            raise
        _leave(sentence)
    except MemoryError:
        _leave("This machine does not have enough free memory: use another, or a smaller run.")
    except (OSError, UnicodeError) as error:
        _leave(_sentence(error))
    except Exception as error:
        from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable

        if isinstance(error, NotWritable | StoreFull | StoreUnreachable):
            _leave(str(error))  # the location, the permissions or the space, not the program
        raise


def _command() -> list[str]:
    """The command that argv names, if it names one."""
    return [word for word in sys.argv[1:] if not word.startswith("-")][:1]


def _check_current_folder() -> None:
    try:
        os.getcwd()
    except FileNotFoundError:
        _leave("The current folder no longer exists: change to another one.")


def _open_missing_streams() -> None:
    """Open the streams that the caller closed (`2>&-`): else the next file to be opened gets their number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, this one
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _tolerate_encodings() -> None:
    """Replace characters that an output cannot encode, instead of failing after the work is done."""
    codecs.register_error("toscore", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="toscore")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain_character, error.object[error.start : error.end])), error.end


def _plain_character(character: str) -> str:
    bare = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _PLAIN.get(character) or bare or "?"


def _flush() -> None:
    """Raise now, and not when the interpreter ends, if an output cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except ValueError:  # closed
            continue


def _sentence(error: OSError | UnicodeError) -> str:
    if isinstance(error, UnicodeError):
        return f"Text cannot be read or written in this encoding ({error}): use UTF-8."
    reason = error.strerror or str(error) or type(error).__name__
    if error.filename is not None:
        return f"{error.filename}: {reason}."
    if error.errno in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
        return f"The output cannot be written: {reason}."
    return f"{reason}."


def _leave(sentence: str, code: ExitCode = ExitCode.BAD_INPUT) -> NoReturn:
    # An output that failed would fail again when the interpreter ends, with a message of its own.
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    try:
        print(f"toscore: {sentence}", file=sys.stderr, flush=True)
    except OSError:
        os._exit(code)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os._exit(code)
    sys.exit(code)
