"""The evaluation settings of a worker whose device is of another kind than the one the run has chosen for.

The driver compares the evaluation strategies once, on one worker (`strategy_probe`). On a cluster of unequal
machines another strategy may be faster on other devices, and more or fewer paths may fit into their memory.
The first worker on a device of another kind compares the strategies there, and publishes its choice in the
store. All workers on devices of that kind use it, in continued runs as well.
"""

import hashlib
from dataclasses import asdict, dataclass

from workers.execution.strategy_probe import choose_evaluation
from workers.problems.evaluation import Evaluation, device_type
from workers.problems.loaded_problem import LoadedProblem
from workers.storage.run_store import Store
from workers.tasks.path_tasks import PathTaskSettings
from workers.tasks.problem import Problem


@dataclass(frozen=True)
class ChosenFor:
    """What the evaluation settings of a run were chosen for.

    Attributes:
        device_type: kind of the device, from `device_type`.
        settings: of the paths; with them strategies are compared on devices of other kinds.
    """

    device_type: str
    settings: PathTaskSettings


def is_other_device(chosen_for: ChosenFor | None, evaluation: Evaluation) -> bool:
    """Whether the device of this process is of another kind than the one that was chosen for."""
    return chosen_for is not None and device_type(evaluation.device) != chosen_for.device_type


def evaluation_of_device(
    problem: Problem, loaded: LoadedProblem, settings: PathTaskSettings, store: Store
) -> Evaluation:
    """The evaluation settings for the kind of device of this process.

    Args:
        problem: of the run.
        loaded: the same, on the device of this process, with the settings of the run.
        settings: of the paths.
        store: of the run.

    Returns:
        The settings in the store. If there are none, the strategies are compared here and the choice is
        published; of two workers that do so at the same time, both use the choice that was published first.
    """
    base = loaded.evaluation
    kind = (device_type(base.device), base.precision, problem.key)
    key = hashlib.sha256("\n".join(kind).encode()).hexdigest()[:16]
    known = store.device_settings(key)
    if known is None:
        choice = choose_evaluation(loaded, settings, base.precision, device=base.device)
        known = store.publish_device_settings(key, asdict(choice.evaluation))
    return Evaluation(**known)
