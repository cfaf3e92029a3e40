"""The data and the network of a plan, loaded and checked in this process."""

import sys

from orchestrator.planning.plan import Plan
from orchestrator.run_file.errors import BadRunFile
from workers.problems.data_sets import Dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import Loaded, load_problem
from workers.problems.reproducibility import check_builder
from workers.problems.user_code import BadReference


def load_for(plan: Plan, data: Dataset | None = None) -> Loaded:
    """Load the data and build the network of a plan; what was chosen for a user's own is printed.

    Args:
        plan: of the run.
        data: of its problem, where they have been loaded already.

    Raises:
        BadRunFile: they do not fit together, or the network differs each time that it is built.
    """
    try:
        loaded = load_problem(plan.problem, Evaluation(), data)
        check_builder(plan.problem, loaded.data, trains=plan.run.minima.trained > 1)
    except BadReference as error:
        raise BadRunFile(str(error)) from None
    for note in loaded.notes:
        print(f"{note}.", file=sys.stderr)
    return loaded
