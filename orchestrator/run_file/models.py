"""The run file: parsed once into frozen models, everything impossible refused here.

Names become objects in this file alone. The settings of each kind of task are the dataclasses that the
tasks themselves carry (`PathWork`, `MinimumSettings`, …), so a key of the run file, its default and its
check are written down once, where the setting is used.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema

from orchestrator.pair_rules.protocol import PairRule
from orchestrator.pair_rules.registry import PAIR_RULES
from orchestrator.run_file.names import OneOf
from orchestrator.run_file.numbers import Guarded, guarded
from topo_core.objectives.precision import Precision
from workers.execution.progress import CHECKPOINT_SECONDS
from workers.tasks.minimum_settings import MinimumSettings
from workers.tasks.path_tasks import PathWork
from workers.tasks.problem import DType
from workers.tasks.simplex_tasks import SimplexWork
from workers.tasks.specs import OBJECTIVE, TORCHVISION, DataSpec, LossSpec, NetworkSpec

MOST_MINIMA = 100_000
"""Largest number of trained minima. They have 5 billion pairs, ten thousand times as many as the largest
tested run; a larger number is a typing error."""


class Model(BaseModel):
    """Frozen, without unknown keys, and strict about numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return guarded(handler(source))


def _spec(kind: type[DataSpec] | type[NetworkSpec] | type[LossSpec]) -> Any:
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


def _training_apart(value: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """The run file writes the keys of the training beside the others; here they are one value."""
    training = {k: v for k, v in value.items() if k not in own}
    return {**{k: v for k, v in value.items() if k in own}, "training": training}


class Recipe(Model):
    """One of `minima.recipes`: so many minima, trained with these keys instead of those of `minima`."""

    count: int = Field(ge=1, le=MOST_MINIMA)
    training: Annotated[MinimumSettings, Guarded()] = Field(default_factory=MinimumSettings)


class Restarts(Model):
    """`minima.restarts:` minima trained from checkpoints whose weights are changed at random."""

    from_: tuple[str, ...] = Field(
        (), alias="from", description="Checkpoints to start from; those of minima.from by default."
    )
    count: int = Field(6, ge=1, le=MOST_MINIMA, description="Restarts from each checkpoint.")
    spread: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        (0.1, 0.3, 1.0),
        min_length=1,
        description="Standard deviation of the change, in root mean squares of each parameter tensor; "
        "restarts take these values in turn. 0 starts from the checkpoint as it is.",
    )

    @model_validator(mode="after")
    def _all_differ(self) -> "Restarts":
        if 0 in self.spread and self.count > len(self.spread):
            raise ValueError(
                f"minima.restarts.count is {self.count} and one of the {len(self.spread)} values of "
                "minima.restarts.spread is 0, so that several restarts would be equal: lower count, or "
                "give values above 0"
            )
        return self


class Minima(Model):
    """`minima:` how many to train and how, or which checkpoints to take."""

    count: int | None = Field(
        None,
        le=MOST_MINIMA,
        description="How many to train; 10, or 0 when `from` is given.",
    )
    from_: tuple[str, ...] = Field(
        (), alias="from", description="Checkpoints to take: .safetensors, or .pt state dicts."
    )
    discover: bool = Field(
        False, description="Descend from dips inside paths, and add the minima that this reaches."
    )
    recipes: tuple[Recipe, ...] = Field(
        (), description="Several kinds of training: each a count, and training keys of its own."
    )
    restarts: Restarts | None = Field(
        None, description="Minima trained from checkpoints whose weights are changed at random."
    )
    training: Annotated[MinimumSettings, Guarded()] = Field(default_factory=MinimumSettings)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        """The run file writes the training keys directly under `minima:`, and under each recipe."""
        if not isinstance(value, Mapping) or "training" in value:
            return value
        parts = _training_apart(
            value, {"count", "from", "from_", "discover", "recipes", "restarts"}
        )
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
        given = bool(self.from_ or self.restarts)
        count = self.count if self.count is not None else (0 if given else 10)
        return (self.training,) * count

    @property
    def restart_from(self) -> tuple[str, ...]:
        """The checkpoints from which restarts begin."""
        return (self.restarts.from_ or self.from_) if self.restarts else ()

    @property
    def restart_count(self) -> int:
        """Restarts from all checkpoints together."""
        return len(self.restart_from) * self.restarts.count if self.restarts else 0

    @property
    def every_training(self) -> tuple[MinimumSettings, ...]:
        """The training of each minimum that is not imported, restarts included."""
        return (*self.trainings, *(self.training,) * self.restart_count)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """All checkpoints that are read: those taken as minima first, and those that restarts begin from."""
        return (*self.from_, *(one for one in self.restart_from if one not in self.from_))

    @property
    def trained(self) -> int:
        return len(self.trainings)

    @property
    def total(self) -> int:
        return len(self.from_) + self.trained + self.restart_count

    @model_validator(mode="after")
    def _enough(self) -> "Minima":
        if self.recipes and self.count is not None:
            raise ValueError(
                f"minima.count is {self.count} and minima.recipes have counts of their own: "
                "leave one of them out"
            )
        if (self.count or 0) < 0:
            raise ValueError(f"minima.count is {self.count}; it must be 0 or more")
        if self.restarts and not self.restart_from:
            raise ValueError(
                "minima.restarts has no checkpoint to start from: name some in minima.from or "
                "minima.restarts.from"
            )
        if self.total < 2:
            raise ValueError(
                f"a barcode needs at least 2 minima and this asks for {self.total}: "
                "raise minima.count or name more checkpoints in minima.from"
            )
        return self


class Pairs(Model):
    """`pairs:` which pairs of minima are joined by a path."""

    rule: Annotated[str, OneOf(PAIR_RULES)] = Field(
        "all",
        description="Which pairs: all, listed or random ones, those out of one minimum, or those that can "
        "move a bar.",
    )
    tolerance: float = Field(
        1e-3,
        gt=0,
        description="lazy: largest accepted error of a bar; from: by how much a minimum has to be lower. "
        "In units of the loss.",
    )
    minimum: int = Field(0, ge=0, description="from: the minimum that paths lead out of.")
    pairs: tuple[tuple[int, int], ...] = Field((), description="list: the pairs, by index.")
    per_minimum: int = Field(3, ge=1, description="random: pairs drawn for each minimum.")
    rungs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (),
        description="Epochs after which paths are compared; only those that matter are continued.",
    )
    max_pairs: int | None = Field(None, ge=1, description="Budget: largest number of paths.")
    max_hours: float | None = Field(
        None, gt=0, description="Budget: nothing new is started so long after a start of the run."
    )

    @property
    def chosen(self) -> PairRule:
        """The rule that `rule` names."""
        return PAIR_RULES[self.rule]

    @property
    def adaptive(self) -> bool:
        """Whether later paths depend on the results of earlier ones."""
        return self.chosen.adaptive or bool(self.rungs)


class Reduce(Model):
    """`reduce:` the barcodes that are computed from the passes."""

    max_index: int = Field(0, ge=0, le=3)
    heights: Literal["adaptive", "paper"] = Field(
        "adaptive",
        description="Which height of each path counts: the adaptive dense maximum, or the maximum over "
        "the grid of the paper. Both are stored, so paths are not computed again.",
    )


class Saddles(Model):
    """`saddles:` whether peaks of paths are followed to saddles, which proves what bars end at."""

    refine: Literal["auto", "bars", "all", "off"] = Field(
        "auto",
        description="Of paths that hold up bars, of all paths, or of none; auto: bars where minima are "
        "polished.",
    )
    rounds: int = Field(
        12,
        ge=1,
        description="Rounds in which a path is relaxed with exact gradients and its peak followed, at most, "
        "until its highest point is a verified saddle.",
    )


class Resources(Model):
    """`resources:` how many workers, and what each may use."""

    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    gpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0, le=8)] = "auto"
    max_attempts: int = Field(3, ge=1, description="Tries of a task that keeps killing its worker.")
    checkpoint_seconds: float = Field(
        CHECKPOINT_SECONDS,
        ge=0,
        allow_inf_nan=False,
        description="Time between two checkpoints of a task: the work that is lost with a worker, at most.",
    )
    precision: Precision = Field(
        "float32",
        description="Of gradients on a GPU: float32, tf32 or bf16. Losses are measured in float32.",
    )


class RunFile(Model):
    """A run: which loss, which minima, which paths, and what is made of them."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=200,
        description="The run is STORE/NAME.",
    )
    seed: int = Field(0, ge=0)
    store: str = Field(
        "runs", min_length=1, description="A folder, or a URL: s3://, gs:// or az://bucket/prefix."
    )
    objective: dict[str, Any] | None = Field(
        None,
        description="A loss of the parameters alone, as module:callable, instead of data and network.",
    )
    data: _spec(DataSpec)  # type: ignore[valid-type]
    network: _spec(NetworkSpec)  # type: ignore[valid-type]
    loss: _spec(LossSpec) = Field(LossSpec())  # type: ignore[valid-type]
    dtype: DType = Field("float32", description="Of data and parameters: float32 or float64.")
    minima: Minima = Field(default_factory=Minima)
    paths: Annotated[PathWork, Guarded()] = Field(default_factory=PathWork)
    pairs: Pairs = Field(default_factory=Pairs)
    simplices: Annotated[SimplexWork, Guarded()] = Field(default_factory=SimplexWork)
    saddles: Saddles = Field(default_factory=Saddles)
    reduce: Reduce = Field(default_factory=Reduce)
    resources: Resources = Field(default_factory=Resources)
    reuse: tuple[str, ...] = Field((), description="Runs whose results count as this one's.")
    keep_paths: Literal["all", "bars", "none"] = Field(
        "all",
        description="Whose points stay in the store: of all paths, those that hold up bars, none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _objective_as_network(cls, value: Any) -> Any:
        """A loss of the parameters alone goes through a run as a network whose outputs are its loss."""
        if not isinstance(value, Mapping) or value.get("objective") is None:
            return value
        objective = value["objective"]
        objective = {"name": objective} if isinstance(objective, str) else objective
        name = objective.get("name") if isinstance(objective, Mapping) else None
        if not isinstance(name, str) or ":" not in name:
            raise ValueError(
                f"objective is {value['objective']!r}; it must be your own loss as module:callable, or a "
                "mapping with that as its name"
            )
        expanded = {**objective, "name": OBJECTIVE + name}
        loss = value.get("loss") or {}
        given = {"name": "outputs", **loss} if isinstance(loss, Mapping) else {"name": loss}
        if given["name"] != "outputs":
            raise ValueError(
                f"loss.name is {given['name']!r} and there is an objective, which is the loss: leave "
                "loss.name out (loss.ridge may be added)"
            )
        for key in ("data", "network"):
            if value.get(key) not in (None, expanded):
                raise ValueError(f"there are both {key} and objective: leave one of them out")
        own = {"objective": dict(objective), "data": expanded, "network": expanded, "loss": given}
        return {**value, **own}

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
        if self.pairs.minimum >= total:
            raise ValueError(
                f"pairs.minimum is {self.pairs.minimum} but the minima are 0 to {total - 1}: name one of "
                "them"
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
        open_ended = [name for name, rule in PAIR_RULES.items() if rule.open_ended]
        if self.minima.discover and (not self.pairs.chosen.open_ended or self.keep_paths != "all"):
            raise ValueError(
                f"minima.discover is true with pairs.rule {self.pairs.rule!r} and keep_paths "
                f"{self.keep_paths!r}: discovered minima need a rule that joins them "
                f"({', '.join(open_ended)}) and start from paths that are kept"
            )
        if self.keep_paths != "all" and self.paths.start == "through":
            raise ValueError(
                f"keep_paths is {self.keep_paths!r} and paths.start 'through': later paths start from "
                "earlier ones, keep all of them"
            )
        if self.keep_paths == "none" and self.saddles.refine in ("bars", "all"):
            raise ValueError(
                f"keep_paths is 'none' and saddles.refine {self.saddles.refine!r}: saddles are searched "
                "for from the points of paths, keep those that hold up bars or all"
            )
        if self.keep_paths != "all" and self.reduce.max_index > 0:
            raise ValueError(
                f"keep_paths is {self.keep_paths!r} and reduce.max_index {self.reduce.max_index}: "
                "simplices are spanned by paths, keep all of them"
            )
        self.pairs.chosen.check(self.pairs)
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
    def code_references(self) -> tuple[str, ...]:
        """The `module:callable` that the run names: code that reading its results does not need."""
        named = (self.data.name, self.network.name, self.loss.name)
        return tuple(n for n in named if ":" in n and not n.startswith(TORCHVISION))

    @property
    def location(self) -> str:
        """The run's folder or URL: STORE/NAME."""
        return f"{self.store.rstrip('/')}/{self.name}"
