"""The group `minima:` of a run file: which minima are trained, restarted or imported from checkpoints."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from orchestrator.run_file.model import Model
from orchestrator.run_file.numbers import Guarded
from workers.tasks.minimum_settings import MinimumSettings

MOST_MINIMA = 100_000
"""Largest number of trained minima. This many have 5 billion pairs, ten thousand times as many as the largest
tested run, so a larger number is most likely a typing error."""


def _training_apart(value: Mapping[str, Any], own: Iterable[str]) -> dict[str, Any]:
    """A copy of a mapping in which all keys that are not in `own` are moved into one group, `training`."""
    training = {k: v for k, v in value.items() if k not in own}
    return {**{k: v for k, v in value.items() if k in own}, "training": training}


class Recipe(Model):
    """An entry of `minima.recipes`: a number of minima, and training keys that replace those of `minima`."""

    count: int = Field(ge=1, le=MOST_MINIMA)
    training: Annotated[MinimumSettings, Guarded()] = Field(default_factory=MinimumSettings)


class Restarts(Model):
    """`minima.restarts:` minima trained from checkpoints after random noise was added to their weights."""

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

    polished: bool = Field(
        False,
        description="Before its restarts, add each checkpoint as polished to a stationary point, untrained.",
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
    """`minima:` how many minima are trained and how, and which checkpoints are imported as minima."""

    count: int | None = Field(
        None,
        le=MOST_MINIMA,
        description="How many to train; 10, or 0 when `from` is given.",
    )
    from_: tuple[str, ...] = Field(
        (), alias="from", description="Checkpoints to take: .safetensors, or .pt state dicts."
    )
    discover: bool = Field(
        False,
        description="Add the minima at which descents from saddles end, or, where paths are not led over "
        "saddles, descents from dips inside paths.",
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
        """Move the training keys, which a run file has directly under `minima:` and each recipe, into a
        group."""
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
        """The training settings of each minimum that is trained from initial weights, in order."""
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
        """Restarts from all checkpoints together, and the checkpoints that are polished alone."""
        return len(self.restart_from) * len(self.restart_trainings)

    @property
    def restart_trainings(self) -> tuple[MinimumSettings, ...]:
        """The training settings of the minima that start from one checkpoint: first that of its polish
        alone, if `restarts.polished` asks for it, then those of the restarts."""
        if self.restarts is None:
            return ()
        polish: Literal["on", "small"] = "on" if self.training.polish == "on" else "small"
        alone = (replace(self.training, epochs=0, polish=polish),) if self.restarts.polished else ()
        return (*alone, *(self.training,) * self.restarts.count)

    @property
    def every_training(self) -> tuple[MinimumSettings, ...]:
        """The training settings of each minimum that is not imported: first `trainings`, then the
        restarts."""
        return (*self.trainings, *self.restart_trainings * len(self.restart_from))

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """All checkpoints that are read: first those imported as minima, then those that only restarts
        use."""
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
