"""The two chords of each moving point of a path, and their inner products."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Chords:
    """The two chords of each of k moving points, and their inner products [k].

    ``pairs`` is [k, 2, d], back chord and front chord. For a whole path it is a view of the differences of
    consecutive points, so that memory that is read repeatedly stays in the cache. For p paths every tensor
    has one more axis, the first.
    """

    pairs: Tensor
    back_back: Tensor
    front_front: Tensor
    back_front: Tensor

    @property
    def back(self) -> Tensor:
        """[k, d], from the left neighbour to the point."""
        return self.pairs[..., 0, :]

    @property
    def front(self) -> Tensor:
        """[k, d], from the point to the right neighbour."""
        return self.pairs[..., 1, :]

    @classmethod
    def of(
        cls, points: Tensor, index: Tensor | None = None, scratch: Tensor | None = None
    ) -> "Chords":
        """The chords at interior rows of ``points`` [n, d] or [p, n, d]: all, or those of ``index`` [k].

        ``scratch`` is any tensor of at least the shape of ``points``; it receives the chords of all rows.
        """
        if index is None:
            scratch = torch.empty_like(points) if scratch is None else scratch
            segments = points.shape[-2] - 1
            chords = torch.sub(
                points[..., 1:, :], points[..., :-1, :], out=scratch[..., :segments, :]
            )
            pairs = chords.unfold(-2, 2, 1).transpose(-1, -2)
            if points.ndim == 3 and len(points) > 1:
                pairs = pairs.contiguous()  # a batched product would copy it each time
        else:
            here = points[..., index, :]
            back, front = here - points[..., index - 1, :], points[..., index + 1, :] - here
            pairs = torch.stack([back, front], dim=-2)
        products = _products(pairs, pairs)
        return cls(pairs, products[..., 0, 0], products[..., 1, 1], products[..., 0, 1])

    def along(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products [k] of ``rows`` [k, d] with the back and with the front chords."""
        back, front = _products(rows[..., None, :], self.pairs)[..., 0, :].unbind(-1)
        return back, front

    def square(self, back: Tensor, front: Tensor) -> Tensor:
        """Squared lengths [k] of ``back`` times the back chord plus ``front`` times the front chord."""
        return (
            back * back * self.back_back
            + 2 * back * front * self.back_front
            + front * front * self.front_front
        )


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Inner products [..., m, n] of the rows of ``left`` [..., m, d] with those of ``right`` [..., n, d].

    One matrix product reads each array once; an elementwise product and a sum would write and read another.
    """
    return torch.matmul(left, right.transpose(-1, -2))
