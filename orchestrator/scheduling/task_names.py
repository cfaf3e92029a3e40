"""Names and kinds of tasks for people: displays, logs and failure records."""

from workers.tasks.tasks import (
    DescendMinimum,
    ImportMinimum,
    OptimizePath,
    OptimizeSimplex,
    Task,
    TrainMinimum,
)


def describe(task: Task) -> str:
    """The name of a task for people."""
    match task:
        case TrainMinimum(index=index):
            return f"minimum {index}"
        case DescendMinimum(index=index):
            return f"minimum {index} (found in a path)"
        case ImportMinimum(index=index):
            return f"minimum {index} (imported)"
        case OptimizePath(i=i, j=j):
            return f"path {i}–{j}"
        case OptimizeSimplex(vertices=vertices):
            return f"simplex {'–'.join(map(str, vertices))}"


def kind_of(task: Task) -> str:
    """`minimum`, `path` or `simplex`."""
    match task:
        case TrainMinimum() | ImportMinimum() | DescendMinimum():
            return "minimum"
        case OptimizePath():
            return "path"
        case OptimizeSimplex():
            return "simplex"
