"""The base class of all models of the run file, and the field type of a specification."""

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
    """A frozen pydantic model that refuses unknown keys, booleans as numbers, and huge integers."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return guarded(handler(source))


def spec(kind: type[DataSpec] | type[NetworkSpec] | type[LossSpec]) -> Any:
    """The type of a field whose value in YAML is a mapping `{name: …, option: …}`, or the name alone.

    Args:
        kind: the class of the specification that the field holds.
    """

    def parse(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str):
            value = {"name": value}
        # The name may be missing, as in {ridge: 1e-3}.
        if kind is LossSpec and isinstance(value, Mapping):
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
