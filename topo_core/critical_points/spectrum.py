"""The lowest eigenvalues of the Hessian at a point, with their signs settled, and the index.

In few dimensions the Hessian is taken whole: all eigenvalues, to rounding. In more, Lanczos finds the
lowest pair, and again the lowest one orthogonal to those known, until that is positive with a
residual far below itself. The directions known span a negative definite block, so their number is
proved: the index is at least that. It is exactly that where the last pair is positive (Sylvester).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.critical_points.counting import CountedObjective
from topo_core.critical_points.lanczos import Eigenpairs, lowest_eigenpairs, missed_eigenvalue_bound
from topo_core.random_streams import generator

_SEED = "lowest curvature"
_ROWS = 200  # products evaluated together
_CLEAR = (
    0.1  # residual, a part of the curvature, up to which a given vector counts as an eigenvector
)


@dataclass(frozen=True)
class SpectrumSettings:
    """What may be spent on the sign of the lowest curvature.

    Attributes:
        whole: dimensions up to which the whole Hessian is taken: Lanczos needs 500 to 1,000 products for each
            of the two pairs that settle the index of a saddle.
        products: Hessian–vector products for each eigenpair, at most.
        pairs: eigenpairs at most: an index this high or higher is a lower bound.
        miss_probability: bound on the probability that a lower eigenvalue was missed, at which Lanczos stops
            within ``products``.
        memory: numbers that the basis of Lanczos may hold.
    """

    whole: int = 512
    products: int = 1000
    pairs: int = 8
    miss_probability: float = 1e-3
    memory: int = 1 << 25


@dataclass(frozen=True)
class Spectrum:
    """The lowest eigenpairs of a Hessian.

    Attributes:
        values: [m], increasing, in float64.
        vectors: [m, d], orthonormal.
        residuals: [m]; an eigenvalue lies within this distance of each value.
        largest: the largest |curvature| that was seen.
        zero: an eigenvalue of at most this size is indistinguishable from zero.
        settled: whether the signs of all eigenvalues that are not positive, and of the lowest positive
            one, are outside of their residuals; then ``negative`` is the index.
        missed: bound on the probability that Lanczos missed an eigenvalue that is not positive; 0 for the
            whole Hessian. It holds where ``memory`` was enough for a basis of all products.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    largest: float
    zero: float
    settled: bool
    missed: float

    @property
    def negative(self) -> int:
        """Eigenvalues below zero that are proved."""
        return int((self.values < -torch.clamp(self.residuals, min=self.zero)).sum())

    @property
    def zeros(self) -> int:
        """Number of known eigenvalues that are indistinguishable from zero."""
        return int((self.values.abs() <= self.zero).sum())


def lowest_spectrum(
    counted: CountedObjective,
    point: Tensor,
    settings: SpectrumSettings | None = None,
    *,
    deflate: Tensor | None = None,
    near: Tensor | None = None,
    seed: int = 0,
) -> Spectrum:
    """The lowest eigenpairs of the Hessian at ``point`` [d].

    A Hessian that is not finite gives no pairs, and is not settled.

    Args:
        counted: the loss.
        point: [d].
        settings: all defaults when None.
        deflate: [q, d], orthonormal vectors without curvature, which are left out; only for more than
            ``settings.whole`` dimensions.
        near: [d], a vector close to the lowest eigenvector if that is known; it saves the products of a
            Lanczos iteration where its curvature is proved to be negative. Not used for a whole Hessian.
        seed: of the first vectors of Lanczos.
    """
    settings = settings or SpectrumSettings()
    resolution = counted.resolution(point)
    if len(point) <= settings.whole:
        return _whole(counted, point, resolution)
    pairs: list[Eigenpairs] = []
    largest, settled, missed = 0.0, False, 1.0
    known = point.new_zeros(0, len(point)) if deflate is None else deflate
    given = len(known)
    first = None if near is None else _negative_pair(counted, point, near, known)
    if first is not None:
        pairs, known, largest = [first], torch.cat([known, first.vectors]), first.largest
    for number in range(len(pairs), min(settings.pairs, len(point))):
        draw = generator(seed, _SEED, number)
        start = torch.randn(len(point), generator=draw, dtype=torch.float64).to(point)
        pair = lowest_eigenpairs(
            lambda vector: counted.product(point, vector),
            start,
            tolerance=0.1 * resolution,
            sign_above=resolution,
            max_products=settings.products,
            basis_size=min(settings.products, max(64, settings.memory // len(point))),
            miss_probability=settings.miss_probability,
            deflate=known,
        )
        largest = max(largest, pair.largest)
        if not len(pair.values):
            break
        pairs.append(pair)
        known = torch.cat([known, pair.vectors])
        if not pair.converged:
            break
        value = float(pair.values[0])
        if value > resolution * largest:
            settled = True
            missed = missed_eigenvalue_bound(pair, len(point) - len(known) + 1)
            break
    values = torch.cat([pair.values for pair in pairs]) if pairs else torch.zeros(0).double()
    residuals = torch.cat([pair.residuals for pair in pairs]) if pairs else values
    order = values.argsort()
    zero = resolution * largest
    return Spectrum(
        values[order],
        known[given:][order.to(known.device)],
        residuals[order],
        largest,
        zero,
        settled,
        missed,
    )


def _negative_pair(
    counted: CountedObjective, point: Tensor, near: Tensor, known: Tensor
) -> Eigenpairs | None:
    """The Ritz pair of the part of ``near`` [d] outside of ``known`` [q, d] if it proves a negative
    eigenvalue, else None.

    An index of one is proved in the same way whether this vector is an eigenvector or not: the Hessian is
    negative along it, and positive on all directions orthogonal to it.
    """
    vector = near - (known @ near) @ known
    vector = vector / vector.norm()
    image = counted.product(point, vector)
    value = float(vector @ image)
    residual = float((image - value * vector).norm())
    if not (value < 0 and residual <= _CLEAR * -value):
        return None
    values = torch.tensor([value], dtype=torch.float64)
    residuals = torch.tensor([residual], dtype=torch.float64)
    return Eigenpairs(values, vector[None], residuals, float(image.norm()), 1, converged=True)


def _whole(counted: CountedObjective, point: Tensor, resolution: float) -> Spectrum:
    """All eigenpairs, from the products with all axes."""
    axes = torch.eye(len(point), dtype=point.dtype, device=point.device)
    rows = torch.cat([counted.products_of(point, part) for part in axes.split(_ROWS)])
    hessian = 0.5 * (rows + rows.T).to("cpu", torch.float64)
    if not bool(hessian.isfinite().all()):
        nothing = torch.zeros(0, dtype=torch.float64)
        return Spectrum(nothing, point[None][:0], nothing, 0.0, 0.0, False, 1.0)
    values, vectors = torch.linalg.eigh(hessian)
    largest = float(values.abs().max())
    # What differs between the two halves of the matrix is the error of the products.
    error = float((rows - rows.T).to(torch.float64).norm()) + 1e-15 * largest
    return Spectrum(
        values,
        vectors.T.to(point),
        torch.full_like(values, error),
        largest,
        max(resolution * largest, error),
        True,
        0.0,
    )
