"""The task that imports a minimum from a user's checkpoint."""

from torch import Tensor

from topo_core.random_streams import seed_of
from workers.execution.minimum_records import minimum_record
from workers.execution.progress import TaskFailure
from workers.execution.stationarity import judge
from workers.execution.task_run import TaskContext
from workers.problems.checkpoint_files import read_checkpoint
from workers.problems.checkpoints import check_fixed_state, check_state_dict
from workers.problems.user_code import BadReference
from workers.storage.schema import ResultRecord
from workers.tasks.minimum_tasks import ImportMinimum, RestartMinimum
from workers.tasks.results import FailureKind


def checkpoint_point(task: ImportMinimum | RestartMinimum, context: TaskContext) -> Tensor:
    """The parameters [d] in the checkpoint that a task names.

    Raises:
        TaskFailure: the file cannot be read, or does not fit the network.
    """
    loaded, fixed = context.loaded, task.problem.fixed
    try:
        state = read_checkpoint(task.location, loaded.user_module).state
        check_state_dict(task.location, state, loaded.user_module, loaded.dtype)
        if fixed is not None:
            check_fixed_state(
                task.location, state, loaded.user_module, fixed.digest, fixed.location
            )
    except BadReference as error:
        raise TaskFailure(FailureKind.BAD_INPUT, str(error)) from None
    return loaded.flat(state)


def import_minimum(task: ImportMinimum, context: TaskContext) -> ResultRecord:
    """Import a minimum from a user's checkpoint. The point is measured and classified, but not polished.

    Raises:
        TaskFailure: the file cannot be read, or does not fit the network.
    """
    point = checkpoint_point(task, context)
    return minimum_record(
        task,
        context,
        point,
        source=task.location,
        stop_reason="imported",
        critical=judge(context.loaded, point, seed=seed_of(0, "judge", task.key)),
    )
