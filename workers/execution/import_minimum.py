"""The task that takes a minimum from a checkpoint of the user."""

from workers.execution.minimum_records import minimum_record
from workers.execution.progress import TaskFailure
from workers.execution.task_run import Site
from workers.problems.checkpoints import check_fixed_state, check_state_dict, read_state_dict
from workers.problems.user_code import BadReference
from workers.storage.schema import ResultRecord
from workers.tasks.results import FailureKind
from workers.tasks.tasks import ImportMinimum


def import_minimum(task: ImportMinimum, site: Site) -> ResultRecord:
    """Take a minimum from a user's checkpoint.

    Raises:
        TaskFailure: the file is not what it was when the run was planned, or does not fit.
    """
    try:
        state = read_state_dict(task.location)
        check_state_dict(task.location, state, site.loaded.user_module)
        fixed = task.problem.fixed
        if fixed is not None:
            check_fixed_state(
                task.location, state, site.loaded.user_module, fixed.digest, fixed.location
            )
    except BadReference as error:
        raise TaskFailure(FailureKind.BAD_INPUT, str(error)) from None
    return minimum_record(
        task,
        site.loaded,
        site.store,
        site.loaded.flat(state),
        source=task.location,
        stop_reason="imported",
    )
