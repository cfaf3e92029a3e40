"""Loads and checks the data and the network of a plan in this process."""

import sys

from orchestrator.planning.plan import Plan
from orchestrator.run_file.errors import BadRunFile
from workers.problems.dataset import Dataset
from workers.problems.evaluation import Evaluation
from workers.problems.loaded_problem import LoadedProblem, load_problem
from workers.problems.reproducibility import check_builder
from workers.problems.user_code import BadReference


def load_problem_of(plan: Plan, data: Dataset | None = None) -> LoadedProblem:
    """Load the data and build the network of a plan; print which defaults were chosen for code of the user.

    Args:
        plan: of the run.
        data: of the problem, if they are loaded already.

    Raises:
        BadRunFile: data, network and loss do not fit together, or the builder gives a different network each
            time.
    """
    try:
        loaded = load_problem(plan.problem, Evaluation(), data)
        check_builder(plan.problem, loaded.data, trains=plan.run.minima.trained > 1)
    except BadReference as error:
        raise BadRunFile(str(error)) from None
    for note in loaded.notes:
        print(f"{note}.", file=sys.stderr)
    return loaded
