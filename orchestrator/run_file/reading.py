"""Read a run file and its `--set` options, and check them."""

import difflib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.locations import resolved
from orchestrator.run_file.messages import sentence, shown
from orchestrator.run_file.model import Model
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.yaml_text import value_of, values_of
from workers.tasks.minimum_settings import MinimumSettings

M = TypeVar("M", bound=Model)


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunFile:
    """Read a run file.

    Args:
        path: a YAML file, or a pipe with its text. Locations in a pipe are relative to the current folder.
        overrides: `key.sub=value` strings that replace values of the file; each value is read as YAML.

    Raises:
        BadRunFile: the file cannot be read, or a value is not possible.
    """
    file = Path(path)
    values = read_values(file)
    for text in overrides:
        assign(values, *parse_override(text))
    return parse(resolved(values, Path() if is_piped(file) else file.parent))


def is_piped(file: Path) -> bool:
    """Whether a path is that of a stream of this process, such as /dev/stdin or /dev/fd/63."""
    return file.is_relative_to("/dev") or file.is_relative_to("/proc")


def read_values(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, unchecked.

    Raises:
        BadRunFile: the file cannot be read, or holds no keys.
    """
    try:
        # `_text` decodes utf-8-sig, because editors on Windows write a byte-order mark.
        return values_of(_text(file), str(file))
    except FileNotFoundError:
        raise BadRunFile(f"There is no run file {file}; {_other_file(file)}") from None
    except UnicodeDecodeError as error:
        raise BadRunFile(
            f"The run file {file} is not UTF-8 text (byte {error.start}): save it as UTF-8."
        ) from None
    except IsADirectoryError:
        raise BadRunFile(
            f"{file} is a folder: name a run file, which is YAML; `toscore retry {file}` continues the run "
            "that is stored there."
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadRunFile(f"The run file {file} cannot be read: {reason}.") from None


def is_pipe(file: Path) -> bool:
    """Whether a file is a pipe, as in `toscore run <(…)`, or a terminal."""
    return file.is_fifo() or file.is_char_device()


_PIPED: dict[str, str] = {}
"""Texts of the pipes that were read. A pipe can be read only once, and a command may read its run file
twice."""


def _text(file: Path) -> str:
    if not is_pipe(file):
        return file.read_text("utf-8-sig")
    if str(file) not in _PIPED:
        _PIPED[str(file)] = file.read_text("utf-8-sig")
    return _PIPED[str(file)]


def _other_file(wanted: Path) -> str:
    """Advice for a missing run file: a file in the same folder with a similar name, or to check the path."""
    folder = wanted.parent
    beside = folder.iterdir() if folder.is_dir() else ()
    files = [file.name for file in beside if file.suffix in (".yaml", ".yml")]
    close = difflib.get_close_matches(wanted.name, files, 1)
    return f"did you mean {folder / close[0]}?" if close else "check the path."


def parse(values: Mapping[str, Any]) -> RunFile:
    """Check the values of a run file.

    Args:
        values: as YAML gives them, with locations as `resolved` returns them.

    Raises:
        BadRunFile: the first wrong value, in one sentence.
    """
    return checked(RunFile, values, json_schema, "a run file")


def checked(
    model: type[M], values: Mapping[str, Any], schema: Callable[[], dict[str, Any]], what: str
) -> M:
    """Build a model from values, and check them.

    Args:
        model: class of the model.
        values: as YAML gives them.
        schema: returns the JSON Schema of the model, for the message.
        what: noun for the values in the message, such as `a run file`.

    Raises:
        BadRunFile: the first wrong value, in one sentence.
    """
    _refuse_impossible(values, ())
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise BadRunFile(sentence(error.errors(), schema(), what)) from None


def json_schema() -> dict[str, Any]:
    """JSON Schema of the run file, for editors."""
    schema = RunFile.model_json_schema(by_alias=True)
    training = TypeAdapter(MinimumSettings).json_schema()
    minima = schema["$defs"]["Minima"]["properties"]
    for group in (minima, schema["$defs"]["Recipe"]["properties"]):
        group.pop("training")
        group.update(training["properties"])
    schema["$defs"].update(training.get("$defs", {}))
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return dict(schema)


def parse_override(override: str) -> tuple[str, Any]:
    """Split `key.sub=value` into the key and the value, which is read as YAML.

    Raises:
        BadRunFile: the text has another form, or the value is not YAML.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise BadRunFile(f"--set {override!r} is not KEY=VALUE, as in --set paths.epochs=200.")
    return key, value_of(text, key)


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `key.sub` to a value, in place. Text at a parent key is first replaced by the mapping {name: text}.

    Raises:
        BadRunFile: the value of a parent key is not a group of keys.
    """
    *parents, last = key.split(".")
    here = values
    for parent in parents:
        inner = here.get(parent)
        if inner is None or isinstance(inner, str):
            inner = {} if inner is None else {"name": inner}
            here[parent] = inner
        if not isinstance(inner, dict):
            raise BadRunFile(f"--set {key}: {parent} is not a group of keys in the run file.")
        here = inner
    here[last] = value


_KINDS = (str, int, float, bool, type(None), list, tuple, Mapping)


def _refuse_impossible(value: Any, path: tuple[str, ...]) -> None:
    """Refuse values that no key allows: NaN and infinity, binary data and sets, keys that are not text.

    Raises:
        BadRunFile: the first such value below `path`.
    """
    name = ".".join(path)
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRunFile(f"{name} is {value}; it must be a finite number.")
    if not isinstance(value, _KINDS):
        raise BadRunFile(
            f"{name} is a {type(value).__name__}; it must be text, a number, a list or keys."
        )
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, inner in items:
        if isinstance(value, Mapping) and not isinstance(key, str):
            where = f" of {name}" if name else ""
            raise BadRunFile(
                f"The key {shown(key)}{where} is no text; quote it, or check the indentation."
            )
        _refuse_impossible(inner, (*path, str(key)))
