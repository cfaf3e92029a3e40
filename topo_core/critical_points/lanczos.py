"""The lowest eigenpairs of a symmetric operator that is given by its products: Lanczos.

Thick-restart Lanczos (Wu & Simon 2000) with full reorthogonalisation: the Krylov basis grows up to
a limit, is replaced by its lowest Ritz vectors, and grows again. So memory is bounded, and the number of
products is not: it can be as large as the sign of an eigenvalue requires. Where the Krylov space is
exhausted before the whole space is (multiple eigenvalues, an unlucky start), the basis continues with a
random vector, until one more invariant space has changed none of the lowest values.

What is proved and what is not. A Ritz value is never below the eigenvalue of its rank (Cauchy), so m
negative Ritz values prove m negative eigenvalues: "index ≥ m". Some eigenvalue lies within the residual
of each Ritz value. That none lies lower holds with probability one over the random start, for it
has a part in every direction, but not for a given number of products (Kuczyński & Woźniakowski 1992).
Several equal eigenvalues come one after the other: pass those known as ``deflate``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from topo_core.random_streams import generator

_INVARIANT = 1e4  # rounding errors, a part of the largest image: what is left is only rounding
_CLEAR = 0.1  # of the margin to zero: far below 1, since λ itself may still fall, and is reported

Product = Callable[[Tensor], Tensor]
"""A symmetric operator: [d] to [d]."""


@dataclass(frozen=True)
class Eigenpairs:
    """The lowest Ritz pairs.

    Attributes:
        values: [m], increasing, in float64.
        vectors: [m, d], orthonormal.
        residuals: [m], norms of ``A v - λ v``: an eigenvalue lies within this distance of λ.
        largest: the largest |Ritz value| that was seen: the scale of the operator.
        products: how many were used.
        converged: whether the first ``count`` pairs met ``enough``, or the space is exhausted.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    largest: float
    products: int
    converged: bool


def lowest_eigenpairs(
    product: Product,
    start: Tensor,
    count: int = 1,
    *,
    tolerance: float = 1e-6,
    sign_above: float | None = None,
    max_products: int = 300,
    basis_size: int = 64,
    miss_probability: float | None = None,
    deflate: Tensor | None = None,
) -> Eigenpairs:
    """The lowest eigenpairs of a symmetric operator.

    Args:
        product: the operator, [d] to [d].
        start: [d], first vector; one with a part in every direction, unless all that is asked for
            lies in its Krylov space.
        count: of the pairs that must converge; at most as many as dimensions are left.
        tolerance: a pair has converged where its residual is below this part of the largest
            |Ritz value|.
        sign_above: accept a pair already where its sign is settled: its residual is below a tenth of
            |λ| − sign_above × the largest |Ritz value|. None waits for ``tolerance``.
        max_products: to spend at most.
        basis_size: vectors in memory, at least ``count`` + 3.
        miss_probability: where the lowest value is positive, go on until ``missed_eigenvalue_bound`` is
            at most this, or the products are spent. For random starts, and for as many vectors as products.
        deflate: [q, d], orthonormal vectors to which all others are kept orthogonal.

    Returns:
        At least ``count`` pairs where the space has so many. A non-finite product ends the search:
        what was known before is returned (no pairs at all after the first).
    """
    iteration = _Iteration(product, start, deflate, max(basis_size, count + 3))
    count = min(count, iteration.dimensions)
    complete: Tensor | None = None  # the lowest values when the last invariant space was complete
    look = 0  # products before the next look at the Ritz pairs, which costs their cube
    while True:
        alive = iteration.products < max_products and iteration.extend()
        ends = iteration.exhausted or iteration.invariant or not alive
        if iteration.products < look and not ends:
            continue
        look = iteration.products + 1 + iteration.products // 16
        pairs = iteration.pairs(count)
        if iteration.exhausted:
            return pairs
        if not alive:
            settled = complete is None and _settled(pairs, count, tolerance, sign_above)
            return replace(pairs, converged=settled and len(pairs.values) >= count)
        if len(pairs.values) < count:
            continue
        if iteration.invariant:
            near = tolerance * pairs.largest
            if complete is not None and bool(((pairs.values - complete).abs() <= near).all()):
                return replace(pairs, converged=True)
            complete = pairs.values
        elif complete is None and _settled(pairs, count, tolerance, sign_above):
            chance = missed_eigenvalue_bound(pairs, iteration.dimensions)
            if miss_probability is not None and chance > miss_probability:
                continue
            return replace(pairs, converged=True)


def _settled(pairs: Eigenpairs, count: int, tolerance: float, sign_above: float | None) -> bool:
    values, residuals = pairs.values[:count], pairs.residuals[:count]
    good = residuals <= tolerance * pairs.largest
    if sign_above is not None:
        margins = values.abs() - sign_above * pairs.largest
        good |= residuals < _CLEAR * margins
    return bool(good.all())


def missed_eigenvalue_bound(pairs: Eigenpairs, dimension: int) -> float:
    """Bound on the probability that a random start hid an eigenvalue that is not positive.

    A small residual does not exclude it: some other eigenvalue may have converged first. After k
    products, with ε the lowest Ritz value as a part of the largest eigenvalue, the bound is
    1.648 √d exp(−√ε (2k − 1)), Kuczyński & Woźniakowski (1992), Theorem 4.2. 0 where the space is exhausted
    or a Ritz value is not positive, which is proof.
    """
    if pairs.products >= dimension or not len(pairs.values):
        return 0.0
    lowest = float(pairs.values[0])
    if lowest <= 0:
        return 0.0
    # The largest Ritz value is a little below the largest eigenvalue.
    part = lowest / (1.1 * pairs.largest)
    exponent = math.sqrt(part) * (2 * pairs.products - 1)
    return min(1.0, 1.648 * math.sqrt(dimension) * math.exp(-exponent))


class _Iteration:
    """A basis, the operator projected on it, and the next vector."""

    def __init__(self, product: Product, start: Tensor, deflate: Tensor | None, limit: int) -> None:
        self._product, self._limit = product, limit
        self._deflate = start.new_zeros(0, len(start)) if deflate is None else deflate.to(start)
        self.dimensions = len(start) - len(self._deflate)
        self._basis = start.new_zeros(min(limit, self.dimensions), len(start))
        self._small = torch.zeros(len(self._basis), len(self._basis), dtype=torch.float64)
        self._size = 0  # vectors in the basis
        self._beta = 0.0  # norm of what the last product left outside of the basis
        self._dropped = 0.0  # the largest such norm that was taken for zero
        self._eps = torch.finfo(start.dtype).eps
        self._draw = generator("lanczos continuation")
        self.products, self.largest = 0, 0.0
        self.exhausted = self.dimensions == 0  # the basis spans the whole space
        self.invariant = False  # the basis spans an invariant space
        self._next: Tensor | None = None if self.exhausted else self._unit(start)

    def extend(self) -> bool:
        """One product more; False where it is not finite or no direction is left."""
        if self._next is None:
            return False
        vector = self._next
        image = self._product(vector)
        self.products += 1
        if not bool(image.isfinite().all()):
            self._next = None
            return False
        if self._size == len(self._basis):
            self._restart()
        self._basis[self._size] = vector
        self._size += 1
        rest, inside = self._orthogonal(image)
        column = inside.to("cpu", torch.float64)
        self._small[: self._size, self._size - 1] = column
        self._small[self._size - 1, : self._size] = column
        self._beta = float(rest.norm())
        self.largest = max(self.largest, float(image.norm()))
        self.invariant = self._beta <= _INVARIANT * self._eps * self.largest
        if self._size == self.dimensions:
            self._next, self._beta, self.exhausted = None, 0.0, True
        elif self.invariant:
            self._dropped = max(self._dropped, self._beta)
            self._beta, self._next = 0.0, self._unit(self._random())
        else:
            self._next = rest / self._beta
        return True

    def pairs(self, count: int) -> Eigenpairs:
        """The lowest Ritz pairs, ``count`` or as many as the basis has."""
        if not self._size:
            none = self._basis[:0]
            return Eigenpairs(
                none.new_zeros(0, dtype=torch.float64),
                none,
                none.new_zeros(0, dtype=torch.float64),
                self.largest,
                self.products,
                self.exhausted,
            )
        values, weights = torch.linalg.eigh(self._small[: self._size, : self._size])
        self.largest = max(self.largest, float(values.abs().max()))
        kept = min(count, self._size)
        vectors = weights[:, :kept].T.to(self._basis) @ self._basis[: self._size]
        residuals = self._beta * weights[-1, :kept].abs()
        # Rounding of the products is a residual as well.
        residuals = residuals + self._dropped + 4 * self._eps * self.largest
        return Eigenpairs(
            values[:kept], vectors, residuals, self.largest, self.products, self.exhausted
        )

    def _restart(self) -> None:
        """Keep the lowest half of the Ritz vectors."""
        values, weights = torch.linalg.eigh(self._small[: self._size, : self._size])
        kept = self._size // 2
        self._basis[:kept] = weights[:, :kept].T.to(self._basis) @ self._basis[: self._size]
        self._small.zero_()
        self._small[range(kept), range(kept)] = values[:kept]
        self._size = kept

    def _orthogonal(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """The part of ``vector`` outside of basis and deflated vectors, and its parts inside [size].

        Twice is enough (Giraud, Langou & Rozložník 2005).
        """
        basis = self._basis[: self._size]
        inside = vector.new_zeros(self._size)
        for _ in range(2):
            vector = vector - (self._deflate @ vector) @ self._deflate
            parts = basis @ vector
            vector = vector - parts @ basis
            inside = inside + parts
        return vector, inside

    def _unit(self, vector: Tensor) -> Tensor:
        """``vector`` made orthogonal to the basis and of length one; random where nothing is left."""
        for _ in range(3):
            rest, _ = self._orthogonal(vector)
            length = float(rest.norm())
            if length > 1e-6 * float(vector.norm()):
                break
            vector = self._random()
        unit: Tensor = rest / length
        return unit

    def _random(self) -> Tensor:
        width = self._basis.shape[1]
        return torch.randn(width, generator=self._draw, dtype=torch.float64).to(self._basis)
