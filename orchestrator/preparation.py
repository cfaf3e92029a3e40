"""Checks and decisions before a run starts: its store, checkpoints, device and evaluation settings."""

import hashlib
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from orchestrator.cluster.token import present_own_token
from orchestrator.planning.plan import Plan
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import RunFile
from orchestrator.runs.provenance import provenance
from orchestrator.runs.stored_run import config_of
from orchestrator.scheduling.lease import Lease
from topo_core.objectives.precision import check_precision
from workers.execution.strategy_probe import (
    EvaluationChoice,
    choose_evaluation,
    choose_for,
    device_here,
    hardware,
)
from workers.problems.checkpoint_files import read_checkpoint
from workers.problems.checkpoints import check_fixed_state, check_state_dict
from workers.problems.evaluation import GPU_SHARE, Evaluation
from workers.problems.loaded_problem import LoadedProblem
from workers.problems.user_code import BadReference
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store

T = TypeVar("T")


def open_store(location: str) -> Store:
    """Open the store of a run, and check that it can be written to.

    Args:
        location: folder or URL of the run.

    Raises:
        BadRunFile: the store cannot be opened or written to; the sentence says why.
    """
    try:
        objects = open_objects(location)
        objects.check_writable()
    except (NotWritable, StoreUnreachable, StoreFull) as error:
        raise BadRunFile(f"store: {error}") from None
    return Store(objects)


def check_checkpoints(plan: Plan, loaded: LoadedProblem) -> None:
    """Check that the user's checkpoints fit the network, have equal fixed state, and are different points.

    Raises:
        BadRunFile: the first mismatch.
    """
    fixed, seen = plan.problem.fixed, dict[bytes, str]()
    for location in plan.run.minima.checkpoints:
        try:
            checkpoint = read_checkpoint(location, loaded.user_module)
            state = checkpoint.state
            check_state_dict(location, state, loaded.user_module, loaded.dtype)
            if fixed is not None:
                check_fixed_state(location, state, loaded.user_module, fixed.digest, fixed.location)
        except BadReference as error:
            raise BadRunFile(str(error)) from None
        for note in checkpoint.notes:
            print(f"{location}: {note}.", file=sys.stderr)
        point = hashlib.sha256(loaded.flat(state).cpu().numpy().tobytes()).digest()
        if point in seen:
            raise BadRunFile(
                f"minima.from names {seen[point]} and {location}, which hold equal weights: name one of them."
            )
        seen[point] = location


def check_device(run: RunFile) -> None:
    """Check that the device of this machine supports the precision of the run file.

    Raises:
        BadRunFile: it does not.
    """
    try:
        check_precision(run.resources.precision, torch.device(device_here()))
    except ValueError as error:
        raise BadRunFile(f"resources.{error}.") from None


def prepare_store(
    plan: Plan, store: Store, loaded: LoadedProblem, lease: Lease, address: str | None
) -> EvaluationChoice:
    """Repair the store, begin the lease term in its commit log, and publish the configuration of this driver.

    Args:
        plan: of the run.
        store: of the run.
        loaded: the data and the network.
        lease: held by this driver.
        address: of the Ray cluster, or None for this machine.

    Returns:
        The evaluation settings, which are the same for all workers on devices of one kind.

    Raises:
        BadReference: the device does not support the precision.
        Fenced: another driver has taken the run over.
        WorkersUnavailable: no worker can start on the cluster.
    """
    for damage in store.repair():
        print(f"{damage.reason}; it is made again.", file=sys.stderr)
    store.take_over(lease.term)
    choice = _choice_before(plan, store, address) or _choose(plan, loaded, address)
    for note in choice.notes:
        print(note, file=sys.stderr)
    written = config_of(
        plan, choice.evaluation, choice.device_type, provenance(plan.run, choice.hardware)
    )
    store.publish_config(written, term=lease.term)
    return choice


def _choice_before(plan: Plan, store: Store, address: str | None) -> EvaluationChoice | None:
    """The choice of the previous driver; None if there is none, or it was for another problem, precision or
    device."""
    config = store.latest_config()
    if config is None or config.get("problem") != plan.problem.key:
        return None
    evaluation = Evaluation(**config["evaluation"])
    if evaluation.precision != plan.run.resources.precision:
        return None
    if _ask(plan, address, device_here) != evaluation.device:
        return None
    here = hardware()
    machine = here if address is None else {k: config["provenance"].get(k) for k in here}
    return EvaluationChoice(evaluation, machine, device_type=config.get("device_type", ""))


def _choose(plan: Plan, loaded: LoadedProblem, address: str | None) -> EvaluationChoice:
    """Compare the evaluation strategies in this process, or on a worker of the cluster.

    On a cluster, the machine of the driver may have no GPU although those of the workers have one.
    """
    settings, precision = plan.path_settings, plan.run.resources.precision
    if address is None:
        share = plan.run.resources.gpus_per_worker
        # The comparison uses the same part of the GPU as a worker.
        if share != "auto" and 0 < share < 1:
            os.environ[GPU_SHARE] = str(share)
        return choose_evaluation(loaded, settings, precision)
    return _ask(plan, address, choose_for, plan.problem, settings, precision)


def _ask(plan: Plan, address: str | None, function: Callable[..., T], *given: Any) -> T:
    """Call a function in this process, or on a worker of the cluster if there is an address; returns its
    result."""
    if address is None:
        return function(*given)
    present_own_token()
    from orchestrator.cluster.connection import ClusterSettings, ask_a_worker

    answer: T = ask_a_worker(ClusterSettings(address, plan.run.resources), function, *given)
    return answer
