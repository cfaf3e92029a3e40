"""Computes all tasks of a run from its run file, before the first task runs.

The key of a minimum is a hash of the data, the network and the settings; the key of a path is a hash of the
keys of its minima and the settings. So all keys are known in advance, and a resumed run runs the tasks of the
plan whose keys are not complete in the store. Only adaptive pair rules, discovery and saddles add tasks
during a run.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, islice, product

from orchestrator.pair_rules.path_requests import Pair, PathRequest
from orchestrator.pair_rules.protocol import PairOptions, PairRule
from orchestrator.pair_rules.rounds import Rounds
from orchestrator.run_file.models import RunFile
from workers.tasks.minimum_tasks import (
    DescendMinimum,
    ImportMinimum,
    Minimum,
    RestartMinimum,
    SaddleMinimum,
    TrainMinimum,
)
from workers.tasks.path_tasks import OptimizePath, PathFamily, PathTaskSettings
from workers.tasks.problem import FixedState, Problem
from workers.tasks.simplex_tasks import OptimizeSimplex, SimplexTaskSettings
from workers.tasks.task import Task


@dataclass(frozen=True)
class Identity:
    """Hashes of the data, the code and the files that a run file names.

    Attributes:
        data: of the data set.
        network: of the code of the network.
        checkpoints: of the content of each checkpoint of the user.
        loss: of the code of the loss.
    """

    data: str
    network: str
    checkpoints: tuple[str, ...] = ()
    loss: str = ""
    fixed: str = ""
    """Of the frozen parameters and buffers in the checkpoints; empty if they come from the builder of the
    network."""


@dataclass(frozen=True)
class Plan:
    """All tasks of a run.

    Minima are numbered in this order: the user's checkpoints, the trained minima, the restarts, and the
    discovered minima (`orchestrator.planning.discovery`).

    Attributes:
        run: the run file.
        identity: hashes of what the run file names.
        discovered: tasks of the minima that were discovered during the run.
    """

    run: RunFile
    identity: Identity
    discovered: tuple[DescendMinimum | SaddleMinimum, ...] = ()

    @cached_property
    def problem(self) -> Problem:
        """The network, the data and the loss, with the hashes that decide the keys of all tasks."""
        run, identity = self.run, self.identity
        fixed = FixedState(run.minima.checkpoints[0], identity.fixed) if identity.fixed else None
        return Problem(
            run.network,
            run.data,
            identity.data,
            identity.network,
            run.resources.precision,
            run.loss,
            identity.loss,
            fixed,
            run.dtype,
        )

    @cached_property
    def minima(self) -> tuple[Minimum, ...]:
        """The tasks of all minima, by number."""
        run = self.run
        contents = dict(zip(run.minima.checkpoints, self.identity.checkpoints, strict=True))
        imported = [
            ImportMinimum(self.problem, index, location, contents[location])
            for index, location in enumerate(run.minima.from_)
        ]
        trained = [
            TrainMinimum(self.problem, settings, index, run.seed)
            for index, settings in enumerate(run.minima.trainings)
        ]
        return (*imported, *trained, *self._restarts(contents), *self.discovered)

    def _restarts(self, contents: Mapping[str, str]) -> Iterator[RestartMinimum]:
        """The minima whose training starts from perturbed checkpoints.

        Args:
            contents: hash of each checkpoint, by location.
        """
        minima, seed = self.run.minima, self.run.seed
        restarts = minima.restarts
        if restarts is None:
            return
        first = len(minima.from_) + minima.trained
        starts = product(minima.restart_from, enumerate(minima.restart_trainings))
        for index, (location, (place, training)) in enumerate(starts, first):
            number = place - restarts.polished  # -1 for the polish alone
            spread = restarts.spread[number % len(restarts.spread)] if number >= 0 else 0.0
            yield RestartMinimum(
                self.problem,
                training,
                index,
                location,
                contents[location],
                spread,
                number,
                seed,
            )

    @cached_property
    def minimum_keys(self) -> tuple[str, ...]:
        """Keys of the minima, by number."""
        return tuple(task.key for task in self.minima)

    @property
    def path_settings(self) -> PathTaskSettings:
        """Settings of the whole optimisation of a path."""
        return self.run.paths

    @cached_property
    def rungs(self) -> tuple[PathTaskSettings, ...]:
        """Settings of the path on each rung of `pairs.rungs`; the last one is the whole optimisation."""
        whole = self.path_settings
        return (*(replace(whole, epochs=epochs) for epochs in self.run.pairs.rungs), whole)

    @property
    def adaptive(self) -> bool:
        """Whether paths are chosen in rounds, each from the results of the rounds before."""
        return self.run.adaptive

    def rounds(self, losses: Mapping[int, float]) -> Rounds:
        """The rounds of an adaptive rule, before any path is recorded.

        Args:
            losses: of the finished minima, by number.
        """
        run = self.run
        through = run.paths.start == "through"
        return Rounds(
            self.rule,
            run.pairs,
            losses,
            len(self.minima),
            len(self.rungs),
            run.seed,
            through=through,
        )

    @cached_property
    def _families(self) -> tuple[PathFamily, ...]:
        return tuple(PathFamily(self.problem, rung, self.run.seed) for rung in self.rungs)

    def pairs(self) -> Iterator[Pair]:
        """The pairs that the rule may choose, each (i, j) with i < j.

        `pairs.max_pairs` limits them unless the rule is adaptive: such a rule chooses among them by results,
        and the limit then holds for the chosen ones.
        """
        options, minima = self.run.pairs, len(self.minima)
        budget = None if self.rule.adaptive else options.max_pairs
        return islice(self.rule.candidates(options, minima, self.run.seed), budget)

    @property
    def rule(self) -> PairRule:
        """The pair rule of the run."""
        return self.run.pairs.chosen

    @cached_property
    def pair_count(self) -> int:
        """Largest number of pairs for which a path is optimised."""
        return self._within_budget(self.rule.count)

    @property
    def least_pair_count(self) -> int:
        """Smallest number of pairs for which a path is optimised."""
        return self._within_budget(self.rule.least)

    def _within_budget(self, count: Callable[[PairOptions, int, int], int]) -> int:
        options = self.run.pairs
        counted = count(options, len(self.minima), self.run.seed)
        return counted if options.max_pairs is None else min(counted, options.max_pairs)

    def pair_key(self, pair: Pair, rung: int = -1) -> str:
        """Key of the path of a pair on a rung (default: the last), if it does not start from other paths."""
        i, j = pair
        return self._families[rung].path_key(self.minimum_keys[i], self.minimum_keys[j])

    def path_keys(self) -> Iterator[str]:
        """Keys of the paths of all pairs that the rule may choose, on all rungs."""
        families, minima = self._families, self.minimum_keys
        return (
            family.path_key(minima[i], minima[j]) for i, j in self.pairs() for family in families
        )

    def request_key(self, request: PathRequest, rounds: Rounds) -> str:
        """Key of the path of a request in `rounds`."""
        if not request.via:
            return self.pair_key(request.pair, request.rung)
        if (
            request not in rounds.keys
        ):  # stored, because it depends recursively on the keys of the paths on the route
            rounds.keys[request] = self.requested_path(request, rounds).key
        return rounds.keys[request]

    def requested_path(self, request: PathRequest, rounds: Rounds) -> OptimizePath:
        """The task of a request in `rounds`."""
        via = tuple(self.request_key(rounds.issued[rung], rounds) for rung in request.via)
        return self.path(request.pair, request.rung, via)

    def path(self, pair: Pair, rung: int = -1, via: tuple[str, ...] = ()) -> OptimizePath:
        """The task of the path of a pair.

        Args:
            pair: two minima.
            rung: position of the rung, by default the last one.
            via: keys of the finished paths whose concatenation is the initial path.
        """
        i, j = pair
        family = self._families[rung]
        return OptimizePath(
            family,
            i,
            j,
            self.minimum_keys[i],
            self.minimum_keys[j],
            goes_on=family != self._families[-1],
            via=via,
        )

    @property
    def reads_paths(self) -> bool:
        """Whether tasks of the run may read the points of finished paths."""
        run = self.run
        through = run.paths.start == "through"
        simplices = bool(self.simplex_dimensions)
        return through or simplices or run.minima.discover or self.refines_saddles

    @property
    def refines_saddles(self) -> bool:
        """Whether paths are led over saddles.

        With `auto` they are if minima are polished, which needs a ridge, and paths are kept. Without polish
        the points of a run are seldom stationary, and a search from a peak seldom ends at such a point.
        """
        run = self.run
        if run.saddles.refine == "auto":
            polished = run.loss.ridge > 0 and run.minima.training.polish != "off"
            return polished and run.keep_paths != "none"
        return run.saddles.refine != "off"

    @property
    def simplex_dimensions(self) -> range:
        """Dimensions of the simplices to optimise: 2 to r + 1, since H_r needs simplices of r + 1."""
        return range(2, self.run.reduce.max_index + 2) if self.run.reduce.max_index else range(0)

    def simplex_count(self, dimension: int) -> int:
        """Number of simplices of a dimension: C(n, dimension + 1) for n minima."""
        return math.comb(len(self.minima), dimension + 1)

    def simplices(self, dimension: int) -> Iterator[OptimizeSimplex]:
        """The tasks of all simplices of a dimension."""
        for vertices in combinations(range(len(self.minima)), dimension + 1):
            yield self.simplex(vertices)

    def simplex(self, vertices: tuple[int, ...]) -> OptimizeSimplex:
        """The task of the simplex with these minima as vertices, in increasing order."""
        return OptimizeSimplex(
            self.problem,
            self.simplex_settings,
            vertices,
            tuple(self.minimum_keys[v] for v in vertices),
            tuple(self.face_key(face) for face in combinations(vertices, len(vertices) - 1)),
            self.run.seed,
        )

    @cached_property
    def simplex_settings(self) -> SimplexTaskSettings:
        """Settings of the optimisation of simplices."""
        return self.run.simplices

    def face_key(self, vertices: tuple[int, ...]) -> str:
        """Key of the path or simplex with these minima as vertices."""
        if len(vertices) == 2:
            return self.pair_key((vertices[0], vertices[1]))
        return self.simplex(vertices).key

    def tasks(self) -> Iterator[Task]:
        """All tasks that are known in advance, each after the tasks that it depends on."""
        return self.remaining(frozenset(), self.pairs())

    def remaining(self, completed: frozenset[str], pairs: Iterable[Pair]) -> Iterator[Task]:
        """The tasks that are not complete, which a resumed run has to run; for an adaptive rule only minima.

        Args:
            completed: keys of the complete minima and simplices.
            pairs: the pairs of `pairs()` without a finished path.
        """
        yield from (task for task in self.minima if task.key not in completed)
        if self.adaptive:
            return
        yield from map(self.path, pairs)
        for dimension in self.simplex_dimensions:
            yield from (s for s in self.simplices(dimension) if s.key not in completed)
