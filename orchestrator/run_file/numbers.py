"""Numbers of a run file: `true` is no number, and a count of 10**30 is a mistake."""

from typing import Any

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

LARGEST = 2**31 - 1
"""Of whole numbers. No count of a run comes near it, and arithmetic on it stays exact in float64."""

_DATA = ("serialization", "metadata", "default", "expected")
"""Entries of a schema whose values are no schemas, though they may look like one."""


class Guarded:
    """Annotates a field whose type is a dataclass of `topo_core` or `workers`, which do not use pydantic."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return guarded(TypeAdapter(source).core_schema)


def guarded(schema: CoreSchema) -> CoreSchema:
    """A schema in which no boolean passes for a number and no whole number is above `LARGEST`."""
    node: CoreSchema = _guarded(schema)
    return node


def _guarded(node: Any) -> Any:
    if isinstance(node, list | tuple):
        return type(node)(_guarded(item) for item in node)
    if not isinstance(node, dict):
        return node
    if isinstance(function := node.get("function"), dict) and function.get("function") in _CHECKS:
        return node
    inner = {key: value if key in _DATA else _guarded(value) for key, value in node.items()}
    check = {"int": _whole_number, "float": _number}.get(str(node.get("type")))
    return core_schema.no_info_before_validator_function(check, inner) if check else inner


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "it must be a number")
    return value


def _whole_number(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("whole_number", "it must be a whole number")
    if isinstance(value, int | float) and abs(value) > LARGEST:
        raise PydanticCustomError(
            "whole_number", "it must be a whole number of at most {largest}", {"largest": LARGEST}
        )
    return value


_CHECKS = (_number, _whole_number)
