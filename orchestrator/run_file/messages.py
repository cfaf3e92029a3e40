"""Messages about wrong values of a run file. Each is one sentence: key, value, what is allowed, what to
do."""

import difflib
import re
from collections.abc import Sequence
from typing import Any

from pydantic_core import ErrorDetails

_UNWRITTEN = {"training"}
"""Fields of the models that are no keys of a run file: the keys below them are written one level higher."""

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text; quote it",
    "string_too_short": "text, not empty",
    "string_pattern_mismatch": "letters, digits, '.', '_' and '-', with a letter or a digit first",
    "tuple_type": "a list, as in [1, 2]",
    "list_type": "a list, as in [1, 2]",
    "model_type": "a group of keys, as in {key: value}",
    "model_attributes_type": "a group of keys, as in {key: value}",
    "dataclass_type": "a group of keys, as in {key: value}",
    "dict_type": "a group of keys, as in {key: value}",
    "none_required": "left out",
}


def sentence(errors: Sequence[ErrorDetails], schema: dict[str, Any], what: str) -> str:
    """A sentence about the first error.

    Args:
        errors: of a validation, at least one.
        schema: JSON Schema of the validated values; its keys are those that the user can write.
        what: noun for the validated values, such as `a run file`.
    """
    error = errors[0]
    path = _written(error["loc"], schema, error["type"])
    key = ".".join(path)
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            return _unknown_key(path, schema, what)
        case "missing" if not path[:-1]:
            return f"{key} is missing; {what} needs at least {', '.join(schema['required'])}."
        case "missing":
            return f"{key} is missing; {'.'.join(path[:-1])} needs it."
        case "value_error":
            return _located(path, str(error["ctx"]["error"]).rstrip("."))
    alternatives = dict.fromkeys(
        _expected(other)
        for other in errors
        if _written(other["loc"], schema, other["type"]) == path
        and other["type"] not in ("value_error", "none_required")
    )
    return f"{key} is {shown(error['input'])}; it must be {' or '.join(alternatives)}."


def shown(value: Any) -> str:
    """A value as text for a message: short, and as YAML writes it."""
    words = {True: "true", False: "false", None: "empty"}
    if isinstance(value, bool) or value is None:
        return words[value] + (" (YAML reads yes so)" if value is True else "")
    if isinstance(value, int) and abs(value) > 10**30:
        return f"a number of {value.bit_length() * 3 // 10} digits"
    if isinstance(value, tuple | list | dict) and len(value) > 20:
        return f"a {'group' if isinstance(value, dict) else 'list'} of {len(value)} values"
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _expected(error: ErrorDetails) -> str:
    """What is allowed in place of a wrong value, to follow `it must be`."""
    kind, bounds = error["type"], error.get("ctx", {})
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    if kind.startswith("int_"):
        return "a whole number"
    if kind.startswith("float_"):
        return "a number"
    match kind:
        case "literal_error" | "enum":
            return str(bounds["expected"])
        case "greater_than":
            return f"above {bounds['gt']}"
        case "greater_than_equal":
            return f"{bounds['ge']} or more"
        case "less_than":
            return f"below {bounds['lt']}"
        case "less_than_equal":
            return f"at most {bounds['le']}"
        case "string_too_long":
            return f"at most {bounds['max_length']} characters long"
        case "too_long" | "too_short":
            wanted = bounds.get("max_length", bounds.get("min_length"))
            return f"a list of {wanted} values"
    message = error["msg"].rstrip(".")
    for opening in ("it must be ", "Input should be "):
        message = message.removeprefix(opening)
    return message


def _unknown_key(path: Sequence[str], schema: dict[str, Any], what: str) -> str:
    *parents, last = path
    allowed = _keys_beside(path, schema)
    close = difflib.get_close_matches(last, allowed, 1)
    if close:
        return f"{'.'.join(path)} is not a key of {what}; did you mean {'.'.join([*parents, close[0]])}?"
    group = f"of {'.'.join(parents)}" if parents else "there"
    return f"{'.'.join(path)} is not a key of {what}; the keys {group} are {', '.join(allowed)}."


def _located(path: Sequence[str], reason: str) -> str:
    """A reason that begins with the whole key of the run file.

    A reason that was raised by a nested value names no key, or names it relative to that value.
    """
    if not path or reason.startswith(path[0]):
        return reason
    if reason.startswith(f"{path[-1]}."):
        return ".".join([*path[:-1], reason])
    if re.match(r"\w+(\.\w+)* (is|has) ", reason):
        return ".".join([*path, reason])
    return f"{'.'.join(path)}: {reason}"


def _written(location: Sequence[int | str], schema: dict[str, Any], kind: str) -> list[str]:
    """The keys of the run file that lead to a value.

    The location of a pydantic error also contains the names of union members and of `_UNWRITTEN` fields,
    which are left out.
    """
    path: list[str] = []
    here: dict[str, Any] = schema
    unknown = kind in ("extra_forbidden", "unexpected_keyword_argument", "missing")
    for number, part in enumerate(location):
        name = "from" if part == "from_" else str(part)
        if name in _UNWRITTEN:
            continue
        inner = _inner(schema, here, name)
        if inner is None and not (unknown and number == len(location) - 1):
            continue
        path.append(name)
        here = inner or {}
    return path


def _inner(schema: dict[str, Any], here: dict[str, Any], part: str) -> dict[str, Any] | None:
    """The schema of the value under a key, or under an index of a list; None if there is none."""
    for node in _alternatives(schema, here):
        if part.isdigit() and (node.get("type") == "array" or "prefixItems" in node):
            items = [*node.get("prefixItems", ()), *([node["items"]] if "items" in node else ())]
            return items[min(int(part), len(items) - 1)] if items else {}
        if part in node.get("properties", {}):
            return dict(node["properties"][part])
        if isinstance(node.get("additionalProperties"), dict):
            return dict(node["additionalProperties"])
    return None


def _alternatives(schema: dict[str, Any], node: dict[str, Any]) -> list[dict[str, Any]]:
    """A node of the schema, and all nodes that it refers to by `$ref`, `anyOf`, `allOf` or `oneOf`."""
    if "$ref" in node:
        return _alternatives(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    options = [*node.get("anyOf", ()), *node.get("allOf", ()), *node.get("oneOf", ())]
    return [node, *(inner for option in options for inner in _alternatives(schema, option))]


def _keys_beside(path: Sequence[str], schema: dict[str, Any]) -> list[str]:
    """The keys that are allowed in the group that contains the last key of a path, sorted."""
    here: dict[str, Any] = schema
    for part in path[:-1]:
        here = _inner(schema, here, part) or {}
    return sorted({key for n in _alternatives(schema, here) for key in n.get("properties", {})})
