"""The run file: parsed once into frozen models, everything impossible refused here.

Names become objects in this file alone. The settings of each kind of task are the dataclasses that the
tasks themselves carry (`PathWork`, `MinimumSettings`, …), so a key of the run file, its default and its
check are written down once, where the setting is used.
"""

import difflib
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from orchestrator.run_file.errors import BadRunFile
from topo_core.objectives.precision_names import Precision
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.specs import DataSpec, NetworkSpec
from workers.tasks.tasks import PathWork, SimplexWork


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _spec(kind: type[DataSpec] | type[NetworkSpec]) -> Any:
    """A `{name: …, option: …}` mapping (or just the name) that becomes a `DataSpec` or `NetworkSpec`."""

    def parse(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str):
            value = {"name": value}
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


def _training_apart(value: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """The run file writes the keys of the training beside the others; here they are one value."""
    training = {k: v for k, v in value.items() if k not in own}
    return {**{k: v for k, v in value.items() if k in own}, "training": training}


class Recipe(Model):
    """One of `minima.recipes`: so many minima, trained with these keys instead of those of `minima`."""

    count: int = Field(ge=1)
    training: MinimumSettings = Field(default_factory=MinimumSettings)


class Minima(Model):
    """`minima:` how many to train and how, or which checkpoints to take."""

    count: int | None = Field(None, description="How many to train; 10, or 0 when `from` is given.")
    from_: tuple[str, ...] = Field(
        (), alias="from", description="Checkpoints to take: .safetensors, or .pt state dicts."
    )
    discover: bool = Field(
        False, description="Descend from dips found inside paths and add what is found."
    )
    recipes: tuple[Recipe, ...] = Field(
        (), description="Several ways of training: each a count, and training keys of its own."
    )
    training: MinimumSettings = Field(default_factory=MinimumSettings)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """The run file writes the training keys directly under `minima:`, and under each recipe."""
        if not isinstance(value, Mapping) or "training" in value:
            return value
        parts = _training_apart(value, {"count", "from", "from_", "discover", "recipes"})
        if isinstance(parts.get("recipes"), list):
            parts["recipes"] = [
                _training_apart({**parts["training"], **recipe}, {"count"})
                if isinstance(recipe, Mapping) and "training" not in recipe
                else recipe
                for recipe in parts["recipes"]
            ]
        return parts

    @property
    def trainings(self) -> tuple[MinimumSettings, ...]:
        """How each of the minima that are not imported is trained."""
        if self.recipes:
            return tuple(r.training for r in self.recipes for _ in range(r.count))
        count = self.count if self.count is not None else (0 if self.from_ else 10)
        return (self.training,) * count

    @property
    def trained(self) -> int:
        return len(self.trainings)

    @property
    def total(self) -> int:
        return len(self.from_) + self.trained

    @model_validator(mode="after")
    def _enough(self) -> "Minima":
        if self.recipes and self.count is not None:
            raise ValueError(
                f"minima.count is {self.count} and minima.recipes have counts of their own: "
                "leave one of them out"
            )
        if (self.count or 0) < 0:
            raise ValueError(f"minima.count is {self.count}; it must be 0 or more")
        if self.total < 2:
            raise ValueError(
                f"a barcode needs at least 2 minima and this asks for {self.total}: "
                "raise minima.count or name more checkpoints in minima.from"
            )
        return self


class Pairs(Model):
    """`pairs:` which pairs of minima are joined by a path."""

    rule: Literal["all", "lazy", "list", "random"] = "all"
    tolerance: float = Field(1e-3, gt=0, description="lazy: what the barcode may still miss.")
    pairs: tuple[tuple[int, int], ...] = Field((), description="list: the pairs, by index.")
    per_minimum: int = Field(3, ge=1, description="random: pairs drawn for each minimum.")
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Epochs after which paths are compared; only those that matter go on."
    )
    max_pairs: int | None = Field(None, ge=1, description="Budget: paths at most.")
    max_hours: float | None = Field(
        None, gt=0, description="Budget: nothing new is started so long after a start of the run."
    )

    @property
    def adaptive(self) -> bool:
        """Whether later pairs depend on the results of earlier ones."""
        return self.rule == "lazy" or bool(self.rungs)


class Reduce(Model):
    """`reduce:` what is computed from the passes."""

    max_index: int = Field(0, ge=0, le=3)
    heights: Literal["adaptive", "paper"] = Field(
        "adaptive",
        description="Which height of each path counts: the adaptive dense maximum, or the maximum over "
        "the grid of the paper. Both are stored, so paths are not computed again.",
    )


class Resources(Model):
    """`resources:` how many workers, and what each may use."""

    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    gpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0, le=8)] = "auto"
    max_attempts: int = Field(3, ge=1, description="Tries of a task that keeps killing its worker.")
    precision: Precision = Field(
        "float32",
        description="Of gradients on a GPU: float32, tf32 or bf16. Losses are measured in float32.",
    )


class RunFile(Model):
    """A run: which loss, which minima, which paths, and what is made of them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The run is STORE/NAME.")
    seed: int = Field(0, ge=0)
    store: str = Field("runs", min_length=1, description="A folder, or s3://bucket/prefix.")
    data: _spec(DataSpec)  # type: ignore[valid-type]
    network: _spec(NetworkSpec)  # type: ignore[valid-type]
    minima: Minima = Field(default_factory=Minima)
    paths: PathWork = Field(default_factory=PathWork)
    pairs: Pairs = Field(default_factory=Pairs)
    simplices: SimplexWork = Field(default_factory=SimplexWork)
    reduce: Reduce = Field(default_factory=Reduce)
    resources: Resources = Field(default_factory=Resources)
    reuse: tuple[str, ...] = Field((), description="Runs whose results count as this one's.")
    keep_paths: Literal["all", "bars", "none"] = Field(
        "all",
        description="Whose points stay in the store: of all paths, those that hold up bars, none.",
    )

    @field_validator("name")
    @classmethod
    def _plain(cls, value: str) -> str:
        if ".." in value:
            raise ValueError("it must not contain '..'")
        return value

    @model_validator(mode="after")
    def _listed_pairs_exist(self) -> "RunFile":
        total = self.minima.total
        for i, j in self.pairs.pairs:
            if not (0 <= i < total and 0 <= j < total and i != j):
                raise ValueError(
                    f"pairs.pairs names ({i}, {j}) but the minima are 0 to {total - 1}: "
                    "name two different ones"
                )
        rungs = self.pairs.rungs
        if rungs and (self.paths.epochs is None or list(rungs) != sorted({*rungs})):
            raise ValueError(
                f"pairs.rungs is {list(rungs)} and paths.epochs {self.paths.epochs}: "
                "give rising numbers of epochs below a given paths.epochs"
            )
        if rungs and self.paths.epochs is not None and rungs[-1] >= self.paths.epochs:
            raise ValueError(
                f"pairs.rungs ends with {rungs[-1]}, not below paths.epochs = {self.paths.epochs}: "
                "the last rung is paths.epochs itself, leave it out"
            )
        if self.adaptive and self.reduce.max_index > 0:
            raise ValueError(
                f"reduce.max_index is {self.reduce.max_index}, which needs every path whole: "
                "use pairs.rule all without pairs.rungs, and another start than through"
            )
        if self.minima.discover and (self.pairs.rule == "list" or self.keep_paths != "all"):
            raise ValueError(
                f"minima.discover is true with pairs.rule {self.pairs.rule!r} and keep_paths "
                f"{self.keep_paths!r}: minima that are found are joined by rule all, lazy or random, and "
                "start from paths that are kept"
            )
        if self.keep_paths != "all" and self.paths.start == "through":
            raise ValueError(
                f"keep_paths is {self.keep_paths!r} and paths.start 'through': later paths start from "
                "earlier ones, keep all of them"
            )
        if self.keep_paths != "all" and self.reduce.max_index > 0:
            raise ValueError(
                f"keep_paths is {self.keep_paths!r} and reduce.max_index {self.reduce.max_index}: "
                "simplices are spanned by paths, keep all of them"
            )
        if self.pairs.rule == "list" and not self.pairs.pairs:
            raise ValueError("pairs.rule is 'list' and pairs.pairs is empty: list the pairs")
        return self

    @model_validator(mode="after")
    def _loops_have_three_minima(self) -> "RunFile":
        index = self.reduce.max_index
        if index and self.minima.total < 3:
            raise ValueError(
                f"reduce.max_index is {index} and there are {self.minima.total} minima: a loop "
                "needs 3 of them"
            )
        return self

    @property
    def adaptive(self) -> bool:
        """Whether later paths depend on the results of earlier ones."""
        return self.pairs.adaptive or self.paths.start == "through"

    @property
    def location(self) -> str:
        """The run's folder or URL: STORE/NAME."""
        return f"{self.store.rstrip('/')}/{self.name}"


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> RunFile:
    """Read a run file.

    Args:
        path: a YAML file.
        overrides: `key.sub=value` strings, the value read as YAML.

    Raises:
        BadRunFile: one sentence; nothing has been written.
    """
    file = Path(path)
    values = read_values(file)
    for text in overrides:
        assign(values, *parse_override(text))
    return parse(with_checkpoints_beside(values, file.parent))


def read_values(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file, unchecked.

    Raises:
        BadRunFile: it cannot be read, or holds something else.
    """
    try:
        return values_of(file.read_text(), str(file))
    except FileNotFoundError:
        raise BadRunFile(f"There is no run file {file}; {_other_file(file)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadRunFile(f"The run file {file} cannot be read: {error}.") from None


def _other_file(wanted: Path) -> str:
    """The run file beside it whose name is close, or what else to do."""
    folder = wanted.parent
    beside = folder.iterdir() if folder.is_dir() else ()
    files = [file.name for file in beside if file.suffix in (".yaml", ".yml")]
    close = difflib.get_close_matches(wanted.name, files, 1)
    return f"did you mean {folder / close[0]}?" if close else "check the path."


def values_of(text: str, name: str) -> dict[str, Any]:
    """The keys and values of a YAML text; `name` is for the message.

    Raises:
        BadRunFile: it is something else.
    """
    try:
        values = _load_yaml(text)
    except yaml.YAMLError as error:
        raise BadRunFile(f"The run file {name} is not valid YAML: {_yaml_fault(error)}.") from None
    if not isinstance(values, dict):
        held = "is empty" if values is None else f"holds a {type(values).__name__}"
        raise BadRunFile(
            f"The run file {name} {held} and should hold keys with values: start with `name:`, "
            "`data:` and `network:`."
        )
    return values


def _yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong, and in which line."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    said = getattr(error, "problem", None) or "it cannot be read"
    return f"{said}, in line {mark.line + 1}, column {mark.column + 1}"


def with_checkpoints_beside(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Checkpoints are written relative to the run file, and used from anywhere."""
    minima = values.get("minima")
    checkpoints = minima.get("from") if isinstance(minima, dict) else None
    if not isinstance(checkpoints, list):
        return values
    absolute = [
        str((folder / c).resolve()) if isinstance(c, str) and "://" not in c else c
        for c in checkpoints
    ]
    return {**values, "minima": {**values["minima"], "from": absolute}}


def parse(values: Mapping[str, Any]) -> RunFile:
    """Check the values of a run file.

    Raises:
        BadRunFile: the first thing that is wrong, in one sentence.
    """
    return checked(RunFile, values, json_schema, "a run file")


M = TypeVar("M", bound=Model)


def checked(
    model: type[M], values: Mapping[str, Any], schema: Callable[[], dict[str, Any]], what: str
) -> M:
    """Values as a model; `schema` and `what` are for the message.

    Raises:
        BadRunFile: the first thing that is wrong, in one sentence.
    """
    _refuse_non_finite(values, ())
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise BadRunFile(_sentence(error.errors()[0], schema(), what)) from None


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


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as every other tool reads it, and a key appears once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} appears twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def _load_yaml(text: str) -> Any:
    return yaml.load(text, Loader=_Loader)


def parse_override(override: str) -> tuple[str, Any]:
    """`key.sub=value` as the key and the value, read as YAML.

    Raises:
        BadRunFile: it is something else.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise BadRunFile(f"--set {override!r} is not KEY=VALUE, as in --set paths.epochs=200.")
    try:
        return key, _load_yaml(text)
    except yaml.YAMLError:
        raise BadRunFile(f"--set {key}: {text!r} is not a YAML value; quote it.") from None


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Set `key.sub` to a value, in place; a bare name on the way stands for {name: …}.

    Raises:
        BadRunFile: something on the way is no group of keys.
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


def _refuse_non_finite(value: Any, path: tuple[str, ...]) -> None:
    """NaN and infinity pass comparisons that they should fail; no key means anything with them."""
    if isinstance(value, float) and not math.isfinite(value):
        raise BadRunFile(f"{'.'.join(path)} is {value}; it must be a finite number.")
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        _refuse_non_finite(inner, (*path, str(key)))


# Keys that exist only in our models, not in the file: they are left out of messages.
_UNWRITTEN = {"training", "function-before[parse()]"}


def _sentence(error: ErrorDetails, schema: dict[str, Any], what: str) -> str:
    path = [str(p) for p in error["loc"] if str(p) not in _UNWRITTEN]
    path = ["from" if p == "from_" else p for p in path]
    key = ".".join(path)
    value = error["input"]
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            allowed = _keys_beside(path, schema)
            close = difflib.get_close_matches(path[-1], allowed, 1)
            parent = ".".join(path[:-1])
            hint = (
                f"did you mean {'.'.join([*path[:-1], close[0]])}?"
                if close
                else f"the keys {'of ' + parent if parent else 'there'} are {', '.join(allowed)}."
            )
            return f"{key} is not a key of {what}; {hint}"
        case "missing":
            return f"{key} is missing; {what} needs at least {', '.join(schema['required'])}."
        case "value_error":
            return _located(path, str(error["ctx"]["error"]).rstrip("."))
        case _:
            message = error["msg"].partition(", unable to parse")[0]
            message = message.replace("Input should be", "it must be").rstrip(".")
            message = message.replace("a valid integer", "a whole number")
            message = message.replace("a valid number", "a number")
            message = message[0].lower() + message[1:]
            return f"{key} is {_show(value)}; {message}."


def _located(path: Sequence[str], reason: str) -> str:
    """A reason that names its key from where it was raised, with the key as the run file has it."""
    if not path or reason.startswith(path[0]):
        return reason
    if reason.startswith(f"{path[-1]}."):
        return ".".join([*path[:-1], reason])
    if re.match(r"\w+(\.\w+)* (is|has) ", reason):
        return ".".join([*path, reason])
    return f"{'.'.join(path)}: {reason}"


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _keys_beside(path: Sequence[str], schema: dict[str, Any]) -> list[str]:
    """The keys allowed where the last part of the path was written."""
    here: dict[str, Any] = schema
    for part in path[:-1]:
        inner = here.get("items") if part.isdigit() else here.get("properties", {}).get(part)
        here = _resolve(schema, inner or {})
    return sorted(here.get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    for option in (node, *node.get("anyOf", ()), *node.get("allOf", ())):
        if "$ref" in option:
            return dict(schema["$defs"][option["$ref"].rsplit("/", 1)[-1]])
    return node
