"""Measure a minimum, publish its state dict, and return its record."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from topo_core.critical_points.verdicts import CriticalPoint, Verdict
from topo_core.objectives.minibatches import CHUNK
from topo_core.objectives.normalisation import small_variances
from workers.execution.task_run import TaskContext
from workers.problems.loaded_problem import LoadedProblem
from workers.storage.schema import MinimumRecord
from workers.tasks.minimum_tasks import Minimum


def minimum_record(
    task: Minimum,
    context: TaskContext,
    point: Tensor,
    *,
    source: str,
    stop_reason: str,
    history: Sequence[tuple[int, float, float]] = (),
    critical: CriticalPoint | None = None,
    polished: bool = False,
) -> MinimumRecord:
    """Measure a point [d] over the whole training and test sets, publish its state dict, and return its
    record.

    Args:
        task: the task whose result the minimum is.
        context: the problem, the store and the progress.
        point: [d], in the dtype of the problem.
        source: `trained`, or where the point comes from.
        stop_reason: why the training stopped: `epochs` or `loss`; `imported` where there was none.
        history: (epoch, mean minibatch loss, last learning rate) of each epoch of the training.
        critical: the classification of the point; None where it was not classified.
        polished: whether the point was polished. Then the counts of gradients and products in `critical`
            include those of the polish.
    """
    measured = context.loaded.measure(point)
    record = MinimumRecord(
        key=task.key,
        index=task.index,
        source=source,
        loss=measured.loss,
        test_loss=measured.test_loss,
        accuracy=measured.accuracy,
        test_accuracy=measured.test_accuracy,
        gradient_norm=measured.gradient_norm,
        epochs=len(history),
        stop_reason=stop_reason,
        history=[{"epoch": epoch, "loss": loss, "rate": rate} for epoch, loss, rate in history],
        ridge=context.loaded.objective(len(context.loaded.data.train_inputs)).ridge_value(point),
        object=context.store.publish_minimum(task.key, context.loaded.state_dict(point)),
    )
    if critical is None:
        return record
    record = replace(record, **_judged(critical), polished=polished)
    if critical.verdict is not Verdict.NOT_STATIONARY:
        return record
    return replace(record, verdict_reason=record.verdict_reason + _obstacles(context.loaded, point))


def _obstacles(loaded: LoadedProblem, point: Tensor) -> str:
    """What keeps a descent from a stationary point, to be added to the reason; empty if nothing is known."""
    inputs, _ = loaded.examples(CHUNK)
    small = small_variances(loaded.module, loaded.layout.views(point), inputs)
    if not small:
        return ""
    return (
        f"; {' and '.join(map(str, small))}: there the loss changes over tiny distances, so no descent ends "
        "soon. A ridge drives it there, as far as eps allows: a larger eps or a larger ridge helps"
    )


def _judged(critical: CriticalPoint) -> dict[str, Any]:
    return {
        "verdict": critical.verdict.name.lower().replace("_", " "),
        "verdict_reason": str(critical),
        "gradient_norm": critical.gradient_norm,
        "gradient_tolerance": critical.tolerance,
        "eigenvalues": critical.eigenvalues,
        "eigenvalue_bounds": critical.residuals,
        "zero_modes": critical.zero_modes,
        "symmetry_modes": critical.symmetry_modes,
        "judging_gradients": critical.gradients,
        "judging_products": critical.products,
    }
