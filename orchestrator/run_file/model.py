"""What all models of the run file share: they are frozen, refuse unknown keys, and name specifications."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
)
from pydantic_core import CoreSchema

from orchestrator.run_file.numbers import guarded
from workers.tasks.specs import DataSpec, LossSpec, NetworkSpec


class Model(BaseModel):
    """Frozen, without unknown keys, and strict about numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return guarded(handler(source))


def spec(kind: type[DataSpec] | type[NetworkSpec] | type[LossSpec]) -> Any:
    """A `{name: …, option: …}` mapping (or just the name) that becomes a specification."""

    def parse(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if kind is LossSpec and isinstance(value, Mapping):  # a ridge alone is on the default loss
            value = {"name": LossSpec().name, **value}
        if not isinstance(value, Mapping) or "name" not in value:
            raise ValueError("it must be a name or a mapping with the key 'name'")
        return kind.parse(value)

    schema = {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
                "additionalProperties": True,
            },
        ],
        "description": kind.names_help(),
    }
    return Annotated[
        kind,
        BeforeValidator(parse),
        PlainSerializer(lambda spec: spec.canonical()),
        WithJsonSchema(schema),
    ]
