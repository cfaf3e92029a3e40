"""`toscore verify`: whether the objects of a store are intact, and its heights correct.

Every object is read and compared with the digest in its name. Then heights drawn at random are computed
again from the stored points alone, by the plain evaluation of one network after another, whatever
strategy the run used.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from orchestrator.pair_rules.orders import Pair
from orchestrator.planning.fingerprints import identify
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from topo_core.paths.profiles import loss_profile
from topo_core.random_streams import generator
from workers.problems.evaluation import prepare
from workers.problems.loaded_problem import load_problem
from workers.problems.user_code import BadReference
from workers.storage.run_store import Damage, Damaged
from workers.storage.schema import PairRecord

ROUNDING = 1e-4
"""Share of the range of losses along a path by which float32 strategies may differ, ReLU kinks included."""


@dataclass(frozen=True)
class Recomputed:
    """A height, computed again.

    Attributes:
        pair: of minima.
        stored: the height in the record.
        recomputed: the height from the stored points.
        allowed: largest difference of the two: the tolerance of the dense maximum, and rounding.
    """

    pair: Pair
    stored: float
    recomputed: float
    allowed: float

    @property
    def agrees(self) -> bool:
        return abs(self.recomputed - self.stored) <= self.allowed


@dataclass(frozen=True)
class Verification:
    """The results of a verification.

    Attributes:
        objects: number of objects read.
        damage: objects whose bytes are not those that were published, or that are missing.
        heights: computed again.
        unchecked: passes whose points are not kept, or are damaged.
    """

    objects: int
    damage: tuple[Damage, ...]
    heights: tuple[Recomputed, ...]
    unchecked: int

    @property
    def sound(self) -> bool:
        return not self.damage and all(height.agrees for height in self.heights)

    def to_json(self) -> dict[str, Any]:
        return {
            "sound": self.sound,
            "objects": self.objects,
            "damaged": [{"object": d.name, "reason": d.reason} for d in self.damage],
            "heights": [
                {
                    "i": h.pair[0],
                    "j": h.pair[1],
                    "stored": h.stored,
                    "recomputed": h.recomputed,
                    "allowed": h.allowed,
                    "agrees": h.agrees,
                }
                for h in self.heights
            ],
            "unchecked": self.unchecked,
        }


def verify(run: StartedRun, sample: int) -> Verification:
    """Check a run.

    Args:
        run: one that was started.
        sample: how many heights to compute again; fewer if there are fewer.

    Raises:
        UserError: the data or the network are no longer those of the run, so that heights cannot be
            computed again.
    """
    objects = len(run.store.objects.list())
    damage = tuple(run.store.verify())
    passes = sorted(run.landscape().passes.items())
    kept = [(pair, record) for pair, record in passes if record.object is not None]
    draw = generator(run.plan.run.seed, "verify", len(kept))
    chosen = torch.randperm(len(kept), generator=draw)[:sample].sort().values.tolist()
    heights = _recomputed(run, [kept[index] for index in chosen]) if chosen else []
    return Verification(objects, damage, tuple(heights), len(chosen) - len(heights))


def _recomputed(run: StartedRun, passes: list[tuple[Pair, PairRecord]]) -> list[Recomputed]:
    run.check_code()
    settings = run.plan.path_settings
    if identify(run.plan.run) != run.plan.identity:
        raise UserError(
            "The data, the network's code or a checkpoint has changed since the run was started, so "
            "its heights cannot be computed again: verify where they are as they were, or use "
            "--heights 0 to check the objects alone."
        )
    evaluation = replace(run.evaluation, strategy="literal", device="cpu", precision="float32")
    prepare(evaluation)
    try:
        objective = load_problem(run.plan.problem, evaluation).objective(settings.batch_size)
    except BadReference as error:
        raise UserError(str(error)) from None
    heights = []
    for pair, record in passes:
        try:
            points = run.store.read_path(record.object)["points"]
        except Damaged:
            continue  # named among the damage
        profile = loss_profile(
            objective, points, heights=settings.heights, tolerance=settings.height_tolerance
        )
        spread = float(profile.losses.max() - profile.losses.min())
        # The uncertainty in the record is not used: it may be wrong as well.
        allowed = (2 * settings.height_tolerance + ROUNDING) * spread + 1e-6
        heights.append(Recomputed(pair, record.height, profile.maximum, allowed))
    return heights
