"""The groups `pairs:`, `reduce:`, `saddles:` and `resources:` of a run file."""

from typing import Annotated, Literal

from pydantic import Field

from orchestrator.pair_rules.protocol import PairRule
from orchestrator.pair_rules.registry import PAIR_RULES
from orchestrator.run_file.model import Model
from orchestrator.run_file.names import OneOf
from topo_core.objectives.precision import Precision
from workers.execution.progress import CHECKPOINT_SECONDS


class Pairs(Model):
    """`pairs:` the pairs of minima that are joined by a path."""

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
        """The pair rule with the name `rule`."""
        return PAIR_RULES[self.rule]

    @property
    def adaptive(self) -> bool:
        """Whether later paths depend on the results of earlier ones."""
        return self.chosen.adaptive or bool(self.rungs)


class Reduce(Model):
    """`reduce:` the barcodes that are computed from the results."""

    max_index: int = Field(0, ge=0, le=3)
    heights: Literal["adaptive", "paper"] = Field(
        "adaptive",
        description="Which height of each path counts: the adaptive dense maximum, or the maximum over "
        "the grid of the paper. Both are stored, so paths are not computed again.",
    )


class Saddles(Model):
    """`saddles:` whether paths are refined until their highest points are verified saddles."""

    refine: Literal["auto", "bars", "all", "off"] = Field(
        "auto",
        description="Which paths are refined: bars (those at which bars end), all, or off (none); auto: bars "
        "if minima are polished, else off.",
    )
    rounds: int = Field(
        12,
        ge=1,
        description="Largest number of rounds; each relaxes the path with exact gradients and searches for a "
        "saddle from its highest point, until that point is a verified saddle.",
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
