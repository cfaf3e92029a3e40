"""`toscore verify`: check that the objects of a store are intact and that its heights are correct.

Every object is read and compared with the digest in its name. Then a random sample of heights is recomputed
from the stored points, evaluating one network after another on the CPU in float32, whatever strategy the run
used.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch

from orchestrator.pair_rules.path_requests import Pair
from orchestrator.planning.fingerprints import identify
from orchestrator.run_file.errors import UserError
from orchestrator.runs.stored_run import StartedRun
from topo_core.paths.profiles import loss_profile
from topo_core.random_streams import generator
from workers.problems.evaluation import prepare_process
from workers.problems.loaded_problem import load_problem
from workers.problems.user_code import BadReference
from workers.storage.run_store import Damage, Damaged
from workers.storage.schema import PairRecord

ROUNDING = 1e-4
"""Share of the range of losses along a path by which evaluations in float32 by different strategies may
differ, ReLU kinks included."""


@dataclass(frozen=True)
class Recomputed:
    """A height, recomputed from stored points.

    Attributes:
        pair: numbers of the two minima of the path.
        stored: the height in the record.
        recomputed: the height from the stored points.
        allowed: largest difference of the two heights that counts as agreement: twice the tolerance of the
            dense maximum, and rounding.
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
        damage: objects whose bytes differ from what was published, and missing objects.
        heights: the recomputed heights.
        unchecked: number of sampled paths whose points are damaged, so that their heights were not
            recomputed. Paths whose points were not kept are never sampled.
    """

    objects: int
    damage: tuple[Damage, ...]
    heights: tuple[Recomputed, ...]
    unchecked: int

    @property
    def sound(self) -> bool:
        """Whether no object is damaged and all recomputed heights agree."""
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
    """Verify the store of a run.

    Args:
        run: the run.
        sample: number of heights to recompute; fewer if fewer paths have stored points.

    Raises:
        UserError: heights cannot be recomputed, because the data, the network's code or a checkpoint has
            changed or cannot be loaded, or because the code that the store names is not trusted.
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
    prepare_process(evaluation)
    try:
        objective = load_problem(run.plan.problem, evaluation).objective(settings.batch_size)
    except BadReference as error:
        raise UserError(str(error)) from None
    heights = []
    for pair, record in passes:
        try:
            points = run.store.read_path(record.object)["points"]
        except Damaged:
            continue  # `Store.verify` reports it
        profile = loss_profile(
            objective, points, heights=settings.heights, tolerance=settings.height_tolerance
        )
        spread = float(profile.losses.max() - profile.losses.min())
        # The error in the record is not used, because it may be wrong as well.
        allowed = (2 * settings.height_tolerance + ROUNDING) * spread + 1e-6
        heights.append(Recomputed(pair, record.height, profile.maximum, allowed))
    return heights
