"""Checks of the numbers in a run file: `true` is not a number, and a whole number has an upper bound."""

from typing import Any

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

LARGEST = 2**31 - 1
"""Largest whole number. No count of a run comes near it, and arithmetic with such numbers is exact in
float64."""

_DATA = ("serialization", "metadata", "default", "expected")
"""Entries of a pydantic schema whose values are data and not schemas, although they may look like schemas."""


class Guarded:
    """Annotation of a field that applies `guarded` to its type: a dataclass that is no pydantic model."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return guarded(TypeAdapter(source).core_schema)


def guarded(schema: CoreSchema) -> CoreSchema:
    """A copy of a schema that refuses booleans as numbers, and whole numbers of magnitude above `LARGEST`."""
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
