"""What is checked and decided before a run starts: its store, its checkpoints, its device, its evaluation."""

import sys

import torch

from orchestrator.cluster.token import present_own_token
from orchestrator.planning.plan import Plan
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import RunFile
from orchestrator.runs.provenance import provenance
from orchestrator.runs.stored_run import config_of
from orchestrator.scheduling.lease import Lease
from topo_core.objectives.batching.precision import check_precision
from workers.execution.minimum_task import check_state_dict, read_state_dict
from workers.execution.strategy_probe import choose_evaluation, choose_for, device_here, hardware
from workers.problems.data_sets import Dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import Loaded, load_problem
from workers.problems.user_code import BadReference
from workers.storage.objects import NotWritable, StoreFull, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


def open_store(location: str) -> Store:
    """The store of a run, which can be written to.

    Raises:
        BadRunFile: it cannot; the sentence says why.
    """
    try:
        objects = open_objects(location)
        objects.check_writable()
    except (NotWritable, StoreUnreachable, StoreFull) as error:
        raise BadRunFile(f"store: {error}") from None
    return Store(objects)


def load_for(plan: Plan, data: Dataset | None = None) -> Loaded:
    """The data and the network of a plan, in this process.

    Args:
        plan: of the run.
        data: of its problem, where they have been loaded already.

    Raises:
        BadRunFile: they do not fit together.
    """
    try:
        return load_problem(plan.problem, Evaluation(), data)
    except BadReference as error:
        raise BadRunFile(str(error)) from None


def check_checkpoints(plan: Plan, loaded: Loaded) -> None:
    """The user's checkpoints fit the network.

    Raises:
        BadRunFile: the first mismatch.
    """
    for location in plan.run.minima.from_:
        try:
            check_state_dict(location, read_state_dict(location), loaded)
        except BadReference as error:
            raise BadRunFile(str(error)) from None


def check_device(run: RunFile) -> None:
    """This machine's device computes as precisely as is asked for.

    Raises:
        BadRunFile: it has no units for that.
    """
    try:
        check_precision(run.resources.precision, torch.device(device_here()))
    except ValueError as error:
        raise BadRunFile(f"resources.{error}.") from None


def prepare_store(
    plan: Plan, store: Store, loaded: Loaded, lease: Lease, address: str | None
) -> Evaluation:
    """Repair the store, fence off earlier drivers, and record how this driver starts.

    Args:
        plan: of the run.
        store: of the run.
        loaded: the data and the network.
        lease: held by this driver.
        address: of the Ray cluster, or None for this machine.

    Returns:
        How the arithmetic is carried out, the same for all workers of the run.

    Raises:
        WorkersUnavailable: no worker can start on the cluster.
    """
    for damage in store.repair():
        print(f"{damage.reason}; it is made again.", file=sys.stderr)
    store.fence(lease.term)
    config, precision = store.latest_config(), plan.run.resources.precision
    before = None if config is None else Evaluation(**config["evaluation"])
    # Another precision asks for other results, which may need another strategy.
    if config is not None and before is not None and before.precision == precision:
        evaluation = before
        here = hardware()
        machine = here if address is None else {k: config["provenance"].get(k) for k in here}
    elif address is None:
        evaluation = choose_evaluation(loaded, plan.path_settings, precision)
        machine = hardware()
    else:  # the driver's machine may have no GPU where the workers have one
        present_own_token()
        from orchestrator.cluster.connection import ClusterSettings, ask_a_worker

        there = ClusterSettings(address, plan.run.resources)
        evaluation, machine = ask_a_worker(
            there, choose_for, plan.problem, plan.path_settings, precision
        )
    written = config_of(plan, evaluation, provenance(plan.run, machine))
    store.publish_config(written, epoch=lease.term)
    return evaluation
