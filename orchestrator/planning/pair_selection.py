"""Which paths next, where that depends on the results so far: rounds of a pure rule.

A round is chosen from the results of the rounds before it and from nothing else, so a run that is
killed and started again chooses the same pairs, whatever order its workers finished in.

**What can be left out.** A pass is never lower than the higher of its two minima, its *floor*. A pair
whose minima are joined through paths already done at a height of at most its floor + tolerance is
*excluded*: in any barcode of all pairs its path could be replaced by those, so leaving it out moves no
bar by more than the tolerance. Excluding needs bars shorter than the tolerance: where a bar is longer,
every pair that crosses its pass may still be lower and stays *undecided* until it is run.

**Order.** First the lowest minimum with every other (a star: all bars become finite, and where minima
are connected at their own heights nothing else is needed). Then, for each pass of the merge tree that
undecided pairs cross, those of them that are likely to be lowest; passes that could still fall furthest
come first, so that a budget is spent where it matters. The likely height of a path is its
floor plus the mean rise of its two minima over their floors so far.

**Rungs.** A path is first optimised for few epochs. Those that hold up a bar (the minimum spanning
tree) by more than the tolerance go on, and so do their challengers: those that may still come below the
tree's path, by a bound that is predicted from how far the paths fell that went on before them. Each rung
ends with its own annealing, because paths in the middle of their optimisation cannot be compared
(Spearman's rank correlation with the final heights was seen as low as -0.15).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from orchestrator.planning.pair_rules import Pair, listed_pairs
from orchestrator.run_file.models import Pairs
from topo_core.homology.minimum_graphs import checked_graph, merges

Floats = NDArray[np.float64]
NOT_DONE = -1

_PART = 8
"""Of the undecided pairs across a pass this part is run in a round: fewer would learn more from each
other, more would need fewer rounds, at whose ends workers wait for the last path."""


Rung = tuple[Pair, int]
"""A path up to a rung, which is ordered at most once."""


@dataclass(frozen=True)
class Order:
    """One path to be optimised up to a rung.

    Attributes:
        via: finished paths from the first minimum of the pair to the second, whose concatenation it
            starts from; none for a start of its own.
    """

    pair: Pair
    rung: int
    via: tuple[Rung, ...] = ()


class Knowledge:
    """What is known of the pairs of n minima.

    Attributes:
        losses: [n], infinite for a minimum that is not there.
        floors: [n, n], the higher loss of each pair: no pass is lower.
        heights: [rungs, n, n], symmetric, infinite where not done.
        failed: [n, n], symmetric: pairs whose path cannot be had.
    """

    def __init__(self, losses: Mapping[int, float], count: int, rungs: int) -> None:
        self.losses = np.full(count, np.inf)
        for index, loss in losses.items():
            self.losses[index] = loss
        self.floors = np.maximum.outer(self.losses, self.losses)
        self.heights = np.full((rungs, count, count), np.inf)
        self.failed = np.zeros((count, count), dtype=bool)

    @property
    def count(self) -> int:
        return len(self.losses)

    @property
    def top(self) -> int:
        return len(self.heights) - 1

    def learn(self, order: Order, height: float) -> None:
        """Take in a height; the ends belong to the path, so it is never below the floor."""
        i, j = order.pair
        height = max(height, float(self.floors[i, j]))
        self.heights[order.rung, i, j] = self.heights[order.rung, j, i] = height

    def fail(self, pair: Pair) -> None:
        self.failed[pair] = self.failed[pair[::-1]] = True

    @property
    def best(self) -> Floats:
        """[n, n], the lowest height known of each pair."""
        best: Floats = self.heights.min(axis=0)
        return best

    @property
    def rung(self) -> NDArray[np.int64]:
        """[n, n], the highest rung done of each pair, or NOT_DONE."""
        done = np.isfinite(self.heights)
        found = np.where(done.any(axis=0), self.top - done[::-1].argmax(axis=0), NOT_DONE)
        return found.astype(np.int64)

    @property
    def open(self) -> NDArray[np.bool_]:
        """[n, n] with i < j: pairs whose path could be run and has not been on any rung."""
        there = np.isfinite(self.floors) & ~np.isfinite(self.best) & ~self.failed
        return np.triu(there, k=1)

    def undecided(self, tolerance: float) -> NDArray[np.bool_]:
        """[n, n] with i < j: pairs without a path that could still move a bar by more.

        Failed pairs are among them: nothing is proved about a path that was never had.
        """
        unknown = np.isfinite(self.floors) & ~np.isfinite(self.best)
        unknown = np.triu(unknown, k=1)
        minimax = self.tree().minimax
        undecided: NDArray[np.bool_] = unknown & (self.floors + tolerance < minimax)
        return undecided

    def tree(self) -> "Tree":
        """The minimum spanning tree over the best heights."""
        there = np.flatnonzero(np.isfinite(self.losses))
        best = self.best[np.ix_(there, there)]
        passes = checked_graph(self.losses[there].tolist(), best)
        return _tree(
            self.count,
            [
                (merge.height, int(there[i]), int(there[j]))
                for merge in merges(passes)
                for i, j in [passes.pair(merge.index)]
            ],
        )


@dataclass(frozen=True)
class Tree:
    """A minimum spanning tree.

    Attributes:
        edges: its pairs, lowest first.
        minimax: [n, n], the height at which two minima are joined through the tree; infinite where
            they are not, and minus infinite on the diagonal.
        crossed: [n, n], which edge that is; the number of edges where they are not joined.
    """

    edges: list[Pair]
    minimax: Floats
    crossed: NDArray[np.int64]


def _tree(count: int, merged: Iterable[tuple[float, int, int]]) -> Tree:
    edges: list[Pair] = []
    minimax = np.full((count, count), np.inf)
    np.fill_diagonal(minimax, -np.inf)
    found = list(merged)
    crossed = np.full((count, count), len(found), dtype=np.int64)
    members = {i: np.array([i]) for i in range(count)}
    home = list(range(count))
    for number, (height, i, j) in enumerate(found):
        edges.append((min(i, j), max(i, j)))
        a, b = members[home[i]], members.pop(home[j])
        for rows, columns in ((a, b), (b, a)):
            minimax[np.ix_(rows, columns)] = height
            crossed[np.ix_(rows, columns)] = number
        members[home[i]] = np.concatenate([a, b])
        for member in b:
            home[member] = home[i]
    return Tree(edges, minimax, crossed)


def next_round(rule: Pairs, known: Knowledge, seed: int, *, through: bool = False) -> list[Order]:
    """The next paths, most informative first; none when the rule is satisfied or its budget is spent.

    Args:
        rule: `pairs:` of the run file.
        known: the results of all rounds before.
        seed: of the run, for the random rule.
        through: paths start from those already done: a spanning tree comes first, and every later
            path starts as the route through the tree.
    """
    if not np.isfinite(known.heights).any() and not known.failed.any():
        first = _first_round(rule, known, seed)
        if through and rule.rule != "lazy":
            first = _spanning(first, known)
        return _within_budget(rule, known, first)
    if through and rule.rule != "lazy":
        rest = [o for o in _first_round(rule, known, seed) if known.open[o.pair]]
        if rest := _within_budget(rule, known, rest):
            return _routed(rest, known)
    promoted = _promotions(known, rule.tolerance)
    if promoted:
        return promoted
    if rule.rule != "lazy":
        return []
    chosen = _within_budget(rule, known, _most_informative(known, rule.tolerance))
    return _routed(chosen, known) if through else chosen


def _within_budget(rule: Pairs, known: Knowledge, orders: list[Order]) -> list[Order]:
    if rule.max_pairs is None:
        return orders
    started = int(np.triu(np.isfinite(known.best) | known.failed, k=1).sum())
    return orders[: max(0, rule.max_pairs - started)]


def _first_round(rule: Pairs, known: Knowledge, seed: int) -> list[Order]:
    there = np.isfinite(known.losses)
    if rule.rule != "lazy":
        pairs = listed_pairs(rule, known.count, seed)
        return [Order(pair, 0) for pair in pairs if there[pair[0]] and there[pair[1]]]
    lowest = int(known.losses.argmin())
    others = sorted(np.flatnonzero(there).tolist(), key=lambda i: (known.losses[i], i))
    return [Order((min(lowest, i), max(lowest, i)), 0) for i in others if i != lowest]


def _spanning(orders: list[Order], known: Knowledge) -> list[Order]:
    """Of the orders those that connect their minima, of lowest floors first: a star if it can be."""
    passes = {order.pair: float(known.floors[order.pair]) for order in orders}
    losses = {end: float(known.losses[end]) for pair in passes for end in pair}
    found = checked_graph(losses, passes)
    tree = {found.pair(merge.index) for merge in merges(found)}
    return [order for order in orders if order.pair in tree]


def _routed(orders: list[Order], known: Knowledge) -> list[Order]:
    """The orders with their routes through the tree; without, where it does not join a pair."""
    tree, rung = known.tree(), known.rung
    near: dict[int, list[int]] = {}
    for i, j in tree.edges:
        near.setdefault(i, []).append(j)
        near.setdefault(j, []).append(i)
    towards: dict[int, dict[int, int]] = {}
    routed = []
    for order in orders:
        i, j = order.pair
        if j not in towards:  # the next minimum on the way to j, from everywhere
            towards[j] = _parents(j, near)
        here, via = i, list[Rung]()
        while here != j and here in towards[j]:
            there = towards[j][here]
            pair = (min(here, there), max(here, there))
            via.append((pair, int(rung[pair])))
            here = there
        routed.append(Order(order.pair, order.rung, tuple(via) if here == j else ()))
    return routed


def _parents(root: int, near: Mapping[int, list[int]]) -> dict[int, int]:
    parents, waiting = {}, [root]
    while waiting:
        here = waiting.pop()
        for there in near.get(here, ()):
            if there != root and there not in parents:
                parents[there] = here
                waiting.append(there)
    return parents


def _most_informative(known: Knowledge, tolerance: float) -> list[Order]:
    """Of the undecided pairs that cross each pass of the tree, those likely to be lowest."""
    tree = known.tree()
    candidates = known.open & (known.floors + tolerance < tree.minimax)
    i, j = np.nonzero(candidates)
    if not len(i):
        return []
    rise = _mean_rises(known)
    likely = known.floors[i, j] + 0.5 * (rise[i] + rise[j])
    group = tree.crossed[i, j]
    order = np.lexsort((j, i, likely, group))
    _, first, inverse, size = np.unique(
        group[order], return_index=True, return_inverse=True, return_counts=True
    )
    place = np.arange(len(order)) - first[inverse]
    share = np.maximum(1, size // _PART)
    chosen = order[place < share[inverse]]
    # How far the pass could fall, largest first; an infinite one before all others.
    gain = tree.minimax[i[chosen], j[chosen]] - known.floors[i[chosen], j[chosen]]
    chosen = chosen[np.lexsort((chosen, -gain))]
    return [Order((int(i[c]), int(j[c])), 0) for c in chosen]


def _mean_rises(known: Knowledge) -> Floats:
    """[n], how far the paths of each minimum rise over their floors."""
    done = np.isfinite(known.best)
    rises = np.where(done, known.best - np.where(done, known.floors, 0.0), 0.0)
    count = done.sum(axis=1)
    overall = rises.sum() / max(1, int(count.sum()))
    mean: Floats = np.where(count > 0, rises.sum(axis=1) / np.maximum(count, 1), overall)
    return mean


def _promotions(known: Knowledge, tolerance: float) -> list[Order]:
    """The paths of the tree that are not at the top, or else those that could still replace one."""
    if known.top == 0:
        return []
    tree, rung = known.tree(), known.rung
    climbing = [
        Order(pair, int(rung[pair]) + 1)
        for pair in tree.edges
        if rung[pair] < known.top
        and not known.failed[pair]
        and tree.minimax[pair] > known.floors[pair] + tolerance
    ]
    if climbing:
        return climbing
    found = []
    for level in range(known.top):
        here = np.triu((rung == level) & ~known.failed, k=1)
        floors = np.where(here, known.floors, 0.0)
        rise = np.where(here, known.heights[level], 0.0) - floors
        lowest = np.where(here, floors + _least_share(known, level) * rise, np.inf)
        for i, j in zip(*np.nonzero(lowest < tree.minimax - tolerance), strict=True):
            found.append(Order((int(i), int(j)), level + 1))
    return found


def _least_share(known: Knowledge, level: int) -> float:
    """The share of its rise over its floor that every path left on this rung will keep to the top, at least.

    A prediction bound (Student's t, Bonferroni over the paths left) from the shares that the others kept,
    taken as log-normal; never above the smallest of them. Zero while fewer than two are known.
    """
    before, after = known.heights[level], known.heights[known.top]
    seen = np.triu(np.isfinite(before) & np.isfinite(after), k=1)
    left = int(np.triu(np.isfinite(before) & ~np.isfinite(after), k=1).sum())
    count = int(seen.sum())
    if count < 2 or not left:
        return 0.0
    rise = before[seen] - known.floors[seen]
    kept = np.divide(after[seen] - known.floors[seen], rise, where=rise > 0, out=np.ones(count))
    logs = np.log(np.clip(kept, _NOTHING, 1.0))
    # Needed by runs with rungs alone, and slow to import.
    from scipy.special import stdtrit

    quantile = float(stdtrit(count - 1, _RISK / left))
    bound = logs.mean() + quantile * logs.std(ddof=1) * np.sqrt(1 + 1 / count)
    return float(np.exp(min(bound, logs.min())))


_RISK = 0.05
"""The chance that any of the paths left on a rung would have fallen below its predicted lowest."""
_NOTHING = 1e-9
"""A share that counts as none: its logarithm has to be finite."""


class Rounds:
    """The rounds of one run, as far as their results are known.

    Attributes:
        known: from the results of the orders.
        orders: everything that was ordered so far.
        waiting: those of the last round without a result; empty when the rule is satisfied.
        issued: the orders, by pair and rung.
    """

    def __init__(
        self,
        rule: Pairs,
        losses: Mapping[int, float],
        count: int,
        rungs: int,
        seed: int,
        *,
        through: bool = False,
    ) -> None:
        """Args:
        losses: of the minima that are there.
        count: of all minima.
        rungs: how many there are.
        through: whether paths start from those already done.
        """
        self.known = Knowledge(losses, count, rungs)
        self.orders: list[Order] = []
        self.waiting: tuple[Order, ...] = ()
        self.issued: dict[Rung, Order] = {}
        self._rule, self._seed, self._through = rule, seed, through
        self._next()

    def advance(
        self, height: Callable[[Order], float | None], failed: Callable[[Order], bool]
    ) -> None:
        """Take in results, round after round, until one is not complete.

        Args:
            height: of an order, or None while it is not finished. Nothing else than the orders of the
                rounds is looked at.
            failed: whether an order ended without a result.
        """
        while self.waiting:
            waiting = []
            for order in self.waiting:
                found = height(order)
                if found is not None:
                    self.known.learn(order, found)
                elif failed(order):
                    self.known.fail(order.pair)
                else:
                    waiting.append(order)
            self.waiting = tuple(waiting)
            if waiting:
                return
            self._next()

    def _next(self) -> None:
        chosen = next_round(self._rule, self.known, self._seed, through=self._through)
        # A path that goes on goes on from where it started.
        self.waiting = tuple(
            replace(order, via=self.issued[order.pair, 0].via) if order.rung else order
            for order in chosen
        )
        self.orders.extend(self.waiting)
        self.issued |= {(order.pair, order.rung): order for order in self.waiting}
