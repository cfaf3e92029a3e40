"""The state of the refinement of a path over saddles: an immutable value, so every state is a checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from topo_core.critical_points.saddles import Saddle, SaddleDescent
from topo_core.critical_points.verdicts import Verdict


@dataclass(frozen=True)
class SearchResult:
    """The result of a search from a peak of the path.

    Attributes:
        point: [d], where the search ended.
        sides: two polylines [m, d] that descend from a saddle of index 1; empty for any other point.
        peak_loss: loss at the peak.
        loss: loss at the point.
        gradient_norm: norm of the gradient at the point.
        tolerance: gradient norm up to which the point counts as stationary.
        eigenvalues: lowest eigenvalues of the Hessian at the point, in increasing order.
        bounds: error bounds: the interval of this radius around each of ``eigenvalues`` contains an
            eigenvalue.
        index: number of eigenvalues that are proved to be negative.
        verdict: ``saddle`` for a saddle proved to have index 1; otherwise the name of another verdict.
        reason: the verdict with its numbers, as a sentence.
        end_losses: losses at the ends of ``sides``.
        end_converged: whether each of these ends is stationary.
    """

    point: Tensor
    sides: tuple[Tensor, ...]
    peak_loss: float
    loss: float
    gradient_norm: float
    tolerance: float
    eigenvalues: tuple[float, ...]
    bounds: tuple[float, ...]
    index: int
    verdict: str
    reason: str
    end_losses: tuple[float, ...]
    end_converged: tuple[bool, ...]

    @classmethod
    def of(cls, saddle: Saddle, sides: Sequence[SaddleDescent]) -> "SearchResult":
        """The result of a search, with the descents from a saddle of index 1."""
        critical = saddle.critical
        verdict = critical.verdict.name.lower().replace("_", " ")
        if critical.verdict is Verdict.SADDLE and not saddle.is_pass:
            verdict = f"saddle of index {'' if critical.index_is_exact else '≥ '}{critical.index}"
        return cls(
            point=critical.point,
            sides=tuple(side.polyline for side in sides),
            peak_loss=saddle.peak_loss,
            loss=critical.loss,
            gradient_norm=critical.gradient_norm,
            tolerance=critical.tolerance,
            eigenvalues=critical.eigenvalues,
            bounds=critical.residuals,
            index=critical.index,
            verdict=verdict,
            reason=str(critical),
            end_losses=tuple(side.loss for side in sides),
            end_converged=tuple(side.converged for side in sides),
        )

    @property
    def is_pass(self) -> bool:
        """Whether it is a saddle proved to have index 1."""
        return self.verdict == "saddle"


@dataclass(frozen=True)
class Piece:
    """A part of the path whose ends are fixed.

    Attributes:
        points: [n, d].
        height: highest loss on it.
        relaxed: rounds in which it was relaxed.
        stagnated: whether relaxing no longer lowers it.
    """

    points: Tensor
    height: float
    relaxed: int = 0
    stagnated: bool = False


@dataclass(frozen=True)
class Crossing:
    """The connection of two pieces: a saddle with the upper parts of its descents, or a joint without a
    saddle.

    Attributes:
        number: index of the saddle in ``results``; -1 for a joint, whose ``up`` and ``down`` are one point.
        up: [m, d], from the end of the piece before it to the saddle.
        down: [m, d], from the saddle to the beginning of the piece after it.
    """

    number: int
    up: Tensor
    down: Tensor


@dataclass(frozen=True)
class PassState:
    """A path over saddles, in pieces.

    Attributes:
        pieces: the pieces in the order of the path; there is one more than there are crossings.
        crossings: the connections of consecutive pieces.
        results: the results of all searches, oldest first.
        best: [n, d], the lowest path so far.
        best_height: highest loss on it.
        first_height: highest loss on the path before the first round.
        end_loss: loss at the higher end of the path.
        rounds: number of rounds done.
        ended: why the refinement has ended; empty until then. ``verified``: the highest point of the path is
            a saddle of index 1. ``no barrier``: the highest point is an end. ``kink``: the highest point is a
            kink of the loss. ``no saddle``: the search from the peak found no new saddle of index 1.
            ``budget``: the rounds or the budget are used up.
        gradients, products: numbers of gradients and of Hessian-vector products evaluated so far.
    """

    pieces: tuple[Piece, ...]
    crossings: tuple[Crossing, ...]
    results: tuple[SearchResult, ...]
    best: Tensor
    best_height: float
    first_height: float
    end_loss: float
    rounds: int
    ended: str
    gradients: int
    products: int

    @property
    def crossed(self) -> list[SearchResult]:
        """The saddles that the path crosses, in order."""
        return [self.results[one.number] for one in self.crossings if one.number >= 0]

    @property
    def highest_crossing(self) -> SearchResult | None:
        """The highest saddle that the path crosses; None where it crosses none."""
        return max(self.crossed, key=lambda result: result.loss, default=None)

    @property
    def level(self) -> float:
        """Loss of the highest saddle that the path crosses, or of its higher end where that is higher."""
        top = self.highest_crossing
        return self.end_loss if top is None else max(top.loss, self.end_loss)

    @property
    def path(self) -> Tensor:
        """[n, d], all pieces and crossings."""
        parts = [self.pieces[0].points]
        for crossing, piece in zip(self.crossings, self.pieces[1:], strict=True):
            parts += [crossing.up[1:], crossing.down[1:], piece.points[1:]]
        return torch.cat(parts)

    def tensors(self) -> dict[str, Tensor]:
        """The tensors, all 2-D."""
        named = {"best": self.best}
        for k, piece in enumerate(self.pieces):
            named[f"piece {k}"] = piece.points
        for k, crossing in enumerate(self.crossings):
            named |= {f"up {k}": crossing.up, f"down {k}": crossing.down}
        for k, result in enumerate(self.results):
            named[f"point {k}"] = result.point[None]
            named |= {f"side {k} {m}": side for m, side in enumerate(result.sides)}
        return named

    def scalars(self) -> dict[str, Any]:
        """Everything else, as JSON can write it."""
        return {
            "pieces": [_scalars(piece) for piece in self.pieces],
            "crossings": [crossing.number for crossing in self.crossings],
            "results": [{**_scalars(r), "sides": len(r.sides)} for r in self.results],
            **{
                name: getattr(self, name)
                for name in (
                    "best_height",
                    "first_height",
                    "end_loss",
                    "rounds",
                    "ended",
                    "gradients",
                    "products",
                )
            },
        }

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> "PassState":
        """The state that ``tensors()`` and ``scalars()`` came from."""
        results = []
        for k, values in enumerate(scalars["results"]):
            rest: Any = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
            sides = tuple(tensors[f"side {k} {m}"] for m in range(rest.pop("sides")))
            results.append(SearchResult(point=tensors[f"point {k}"][0], sides=sides, **rest))
        plain: Any = {
            n: v for n, v in scalars.items() if n not in ("pieces", "crossings", "results")
        }
        return cls(
            pieces=tuple(
                Piece(points=tensors[f"piece {k}"], **values)
                for k, values in enumerate(scalars["pieces"])
            ),
            crossings=tuple(
                Crossing(number, tensors[f"up {k}"], tensors[f"down {k}"])
                for k, number in enumerate(scalars["crossings"])
            ),
            results=tuple(results),
            best=tensors["best"],
            **plain,
        )


def _scalars(value: Piece | SearchResult) -> dict[str, Any]:
    """The fields of ``value`` that are not tensors; its numbers are finite or NaN."""
    names = [item.name for item in fields(value)]
    found = {name: getattr(value, name) for name in names}
    return {
        name: entry
        for name, entry in found.items()
        if not isinstance(entry, Tensor) and name != "sides"
    }
