"""The type of a field whose value is a name in a registry, such as `pairs.rule`."""

from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class OneOf:
    """Annotation of a field of type str: its value must be a key of a mapping.

    The mapping is looked up whenever a file is read, so names that are registered later are known as well.
    """

    def __init__(self, registry: Mapping[str, Any]) -> None:
        self._registry = registry

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # The handler's schema for str would reject a number before the message could list the names.
        return core_schema.no_info_plain_validator_function(
            self._known, serialization=core_schema.to_string_ser_schema()
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "enum": list(self._registry)}

    def _known(self, value: Any) -> str:
        if isinstance(value, str) and value in self._registry:
            return value
        *others, last = map(repr, self._registry)
        raise PydanticCustomError(
            "unknown_name", "it must be {names}", {"names": f"{', '.join(others)} or {last}"}
        )
