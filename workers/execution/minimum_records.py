"""The record of a minimum, measured at a point and published with its state dict."""

from collections.abc import Sequence

from torch import Tensor

from workers.problems.loaded_problem import Loaded
from workers.storage.run_store import Store
from workers.storage.schema import MinimumRecord
from workers.tasks.tasks import Minimum


def minimum_record(
    task: Minimum,
    loaded: Loaded,
    store: Store,
    point: Tensor,
    *,
    source: str,
    stop_reason: str,
    history: Sequence[tuple[int, float, float]] = (),
) -> MinimumRecord:
    """Measure a point [d] over the whole sets, publish its state dict, and describe both.

    Args:
        task: that asked for the minimum.
        loaded: its problem.
        store: of the run.
        point: [d].
        source: `trained`, or where the point comes from.
        stop_reason: of the training.
        history: (epoch, mean minibatch loss, last rate) of each epoch of the training.
    """
    measured = loaded.measure(point)
    return MinimumRecord(
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
        object=store.publish_minimum(task.key, loaded.state_dict(point)),
    )
