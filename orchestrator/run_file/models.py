"""The model of a run file: it is parsed once and frozen, and refuses impossible values.

The settings of each kind of task are dataclasses that are also attributes of the tasks (`PathTaskSettings`,
`MinimumSettings`, …). So a key of the run file, its default and its check are defined once, where the setting
is used.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from orchestrator.pair_rules.registry import PAIR_RULES
from orchestrator.run_file.groups import Pairs, Reduce, Resources, Saddles
from orchestrator.run_file.minima import Minima
from orchestrator.run_file.model import Model, spec
from orchestrator.run_file.numbers import Guarded
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.problem import DType
from workers.tasks.simplex_tasks import SimplexTaskSettings
from workers.tasks.specs import OBJECTIVE, TORCHVISION, DataSpec, LossSpec, NetworkSpec


class RunFile(Model):
    """A run: the loss, the minima, the paths, and the barcodes to compute from them."""

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
    data: spec(DataSpec)  # type: ignore[valid-type]
    network: spec(NetworkSpec)  # type: ignore[valid-type]
    loss: spec(LossSpec) = Field(LossSpec())  # type: ignore[valid-type]
    dtype: DType = Field("float32", description="Of data and parameters: float32 or float64.")
    minima: Minima = Field(default_factory=Minima)
    paths: Annotated[PathTaskSettings, Guarded()] = Field(default_factory=PathTaskSettings)
    pairs: Pairs = Field(default_factory=Pairs)
    simplices: Annotated[SimplexTaskSettings, Guarded()] = Field(
        default_factory=SimplexTaskSettings
    )
    saddles: Saddles = Field(default_factory=Saddles)
    reduce: Reduce = Field(default_factory=Reduce)
    resources: Resources = Field(default_factory=Resources)
    reuse: tuple[str, ...] = Field((), description="Runs whose results count as this one's.")
    keep_paths: Literal["all", "bars", "none"] = Field(
        "all",
        description="Paths whose points stay in the store: all, bars (those at which bars end), or none.",
    )

    @model_validator(mode="before")
    @classmethod
    def _objective_as_network(cls, value: Any) -> Any:
        """Represent a loss of the parameters alone by a network whose outputs are the loss, and matching
        data."""
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
                "for from the points of paths, keep those at which bars end (bars), or all"
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
        """The user's `module:callable` references in the run. Reading its results does not need this code."""
        named = (self.data.name, self.network.name, self.loss.name)
        return tuple(n for n in named if ":" in n and not n.startswith(TORCHVISION))

    @property
    def location(self) -> str:
        """The run's folder or URL: STORE/NAME."""
        return f"{self.store.rstrip('/')}/{self.name}"
