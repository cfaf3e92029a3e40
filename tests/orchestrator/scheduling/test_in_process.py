"""The executor inside this process: a stop at once means at once."""

import pytest

from orchestrator.planning.fingerprints import identify
from orchestrator.planning.plan import Plan
from orchestrator.scheduling.executor import InProcess
from orchestrator.scheduling.messages import PackFinished, WorkerJoined
from tests.helpers.made_run import made_run
from workers.execution.progress import Interrupted
from workers.execution.worker import WorkerContext
from workers.problems.evaluation import Evaluation


def test_leaving_waits_for_no_pack(tmp_path):
    """Ctrl-C ends the running task at its next step, and the pack behind it never starts."""
    made = made_run(tmp_path, 8, minima={"count": 8, "epochs": 1000})
    plan = Plan(made.plan.run, identify(made.plan.run))  # workers compare the data with the plan's
    context = WorkerContext(str(made.folder), 1, Evaluation())
    asked = []
    executor = InProcess(context, lambda: len(asked) > 3 or asked.append(1))
    assert executor.poll(0.0) == [WorkerJoined("local")]
    executor.submit("local", plan.minima)
    with pytest.raises(Interrupted):
        executor.poll(0.0)
    assert not made.store.completed("minima")


def test_a_replaced_worker_joins_again(tmp_path):
    """Its packs are dropped; if it is not to start again, nothing happens any more."""
    made = made_run(tmp_path, 2)
    executor = InProcess(WorkerContext(str(made.folder), 1, Evaluation()))
    executor.poll(0.0)
    executor.submit("local", made.plan.minima)
    executor.replace("local", start_again=True)
    assert executor.poll(0.0) == [WorkerJoined("local")]
    executor.replace("local", start_again=False)
    assert not [e for e in executor.poll(0.0) if isinstance(e, PackFinished | WorkerJoined)]
