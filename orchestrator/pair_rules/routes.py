"""`paths.start: through`: the initial path of a later pair is a concatenation of finished paths."""

from collections.abc import Mapping

from orchestrator.pair_rules.pair_results import PairResults
from orchestrator.pair_rules.path_requests import Pair, PathRequest, Rung
from topo_core.homology.minimum_graphs import checked_graph, merges


def spanning(pairs: list[Pair], known: PairResults) -> list[Pair]:
    """The subset of the pairs that forms a spanning tree of their minima, chosen by lowest floors."""
    passes = {pair: float(known.floors[pair]) for pair in pairs}
    losses = {end: float(known.losses[end]) for pair in passes for end in pair}
    graph = checked_graph(losses, passes)
    tree = {graph.pair(merge.index) for merge in merges(graph)}
    return [pair for pair in pairs if pair in tree]


def routed(requests: list[PathRequest], known: PairResults) -> list[PathRequest]:
    """The requests, each with its route through the spanning tree, if the tree joins the pair."""
    tree, rung = known.tree(), known.rung
    near: dict[int, list[int]] = {}
    for i, j in tree.edges:
        near.setdefault(i, []).append(j)
        near.setdefault(j, []).append(i)
    towards: dict[int, dict[int, int]] = {}
    with_routes = []
    for request in requests:
        i, j = request.pair
        if j not in towards:  # maps each minimum to the next one on its route to j
            towards[j] = _parents(j, near)
        here, via = i, list[Rung]()
        while here != j and here in towards[j]:
            there = towards[j][here]
            pair = (min(here, there), max(here, there))
            via.append((pair, int(rung[pair])))
            here = there
        with_routes.append(PathRequest(request.pair, request.rung, tuple(via) if here == j else ()))
    return with_routes


def _parents(root: int, near: Mapping[int, list[int]]) -> dict[int, int]:
    """The parent of each vertex that is connected with `root`; `near` has the neighbours of each vertex."""
    parents, waiting = {}, [root]
    while waiting:
        here = waiting.pop()
        for there in near.get(here, ()):
            if there != root and there not in parents:
                parents[there] = here
                waiting.append(there)
    return parents
