"""The registry of task kinds: for each class of task the function that runs it."""

from collections.abc import Callable
from typing import Any

from workers.execution.import_minimum import import_minimum
from workers.execution.path_task import optimize_one_path
from workers.execution.saddle_task import refine_one_saddle
from workers.execution.simplex_task import optimize_one_simplex
from workers.execution.task_run import TaskContext
from workers.execution.train_minimum import (
    descend_minimum,
    restart_minimum,
    saddle_minimum,
    train_minimum,
)
from workers.storage.schema import ResultRecord
from workers.tasks.minimum_tasks import (
    DescendMinimum,
    ImportMinimum,
    RestartMinimum,
    SaddleMinimum,
    TrainMinimum,
)
from workers.tasks.path_tasks import OptimizePath
from workers.tasks.saddle_tasks import RefineSaddle
from workers.tasks.simplex_tasks import OptimizeSimplex
from workers.tasks.task import Task

# Each function takes tasks of the class that is its key. The type of a mapping cannot express that.
TASK_KINDS: dict[type[Task], Callable[[Any, TaskContext], ResultRecord]] = {
    TrainMinimum: train_minimum,
    DescendMinimum: descend_minimum,
    ImportMinimum: import_minimum,
    RestartMinimum: restart_minimum,
    SaddleMinimum: saddle_minimum,
    OptimizePath: optimize_one_path,
    OptimizeSimplex: optimize_one_simplex,
    RefineSaddle: refine_one_saddle,
}
