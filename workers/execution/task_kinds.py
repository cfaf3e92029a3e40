"""How each kind of task is carried out: one entry a kind, each from a file of its own."""

from collections.abc import Callable
from typing import Any

from workers.execution.import_minimum import import_minimum
from workers.execution.path_task import optimize_one_path
from workers.execution.saddle_task import refine_one_saddle
from workers.execution.simplex_task import optimize_one_simplex
from workers.execution.task_run import Site
from workers.execution.train_minimum import descend_minimum, train_minimum
from workers.storage.schema import ResultRecord
from workers.tasks.tasks import (
    DescendMinimum,
    ImportMinimum,
    OptimizePath,
    OptimizeSimplex,
    RefineSaddle,
    Task,
    TrainMinimum,
)

# Each function takes tasks of the class that is its key, which a mapping's type cannot express.
TASK_KINDS: dict[type[Task], Callable[[Any, Site], ResultRecord]] = {
    TrainMinimum: train_minimum,
    DescendMinimum: descend_minimum,
    ImportMinimum: import_minimum,
    OptimizePath: optimize_one_path,
    OptimizeSimplex: optimize_one_simplex,
    RefineSaddle: refine_one_saddle,
}


def register(kind: type[Task], carry_out: Callable[[Any, Site], ResultRecord]) -> None:
    """Add a kind of task.

    Args:
        kind: class of the tasks.
        carry_out: carries out one of them and returns its record.

    Raises:
        ValueError: the kind is known already.
    """
    if kind in TASK_KINDS:
        raise ValueError(
            f"{kind.__name__} is a known kind of task; give the new one a class of its own"
        )
    TASK_KINDS[kind] = carry_out
