"""What part of the gradient moves a path: one rule for each known method.

At a moving point x with neighbours l and r, chords b = x - l and f = r - x, and gradient g,
every method here descends along

    n = g - A_b b - A_f f

and the rules differ in the two numbers A_b and A_f alone. Numbers come from inner products
[k], so a step reads each of the [k, d] arrays a few times and makes no loop over points.

``improved`` g without its part along the upwind tangent of Henkelman & Jónsson (2000),
             eqs. (8)-(11): the chord to the higher neighbour, both chords weighted by energy
             differences at an extremum. A true projection. The default.
``string``   g without its part along r - l (E, Ren & Vanden-Eijnden 2002).
``spring``   ``improved`` plus springs along the tangent, k (|f| - |b|) (nudged elastic band).
``paper``    Algorithm 2: g - (P_b g + P_f g) / 2 with P the projections on the two chords. At a
             kink this is no projection: half of the tangential part stays. ``b`` uses the left
             neighbour as already moved in this step, see ``optimize``.

A climbing point (Henkelman, Uberuaga & Jónsson 2000) has its tangential part reversed, so it
goes up along the path and down across it, to the saddle.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from topo_core.paths.settings import ForceName


@dataclass(frozen=True)
class Chords:
    """The two chords of each of k moving points, and their inner products [k].

    ``pairs`` is [k, 2, d], back chord and front chord. For a whole path it is a view of its chords in
    a row: memory that is read again and again stays in the cache. Those of p paths have an axis more, the
    first, in everything.
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

        ``scratch`` is any tensor of at least the shape of ``points``; chords of all rows lie in it.
        """
        if index is None:
            scratch = torch.empty_like(points) if scratch is None else scratch
            segments = points.shape[-2] - 1
            chords = torch.sub(
                points[..., 1:, :], points[..., :-1, :], out=scratch[..., :segments, :]
            )
            pairs = chords.unfold(-2, 2, 1).transpose(-1, -2)
            if points.ndim == 3 and len(points) > 1:
                pairs = pairs.contiguous()  # which products over all paths would do anew
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


def upwind_weights(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [...] of the back and of the front chord in the improved tangent.

    ``losses`` [..., 3] are those of the left neighbour, the point, and the right neighbour.
    Where the three are equal the tangent is that of ``string``.
    """
    left, here, right = losses.unbind(-1)
    rising, falling = (right > here) & (here > left), (right < here) & (here < left)
    to_left, to_right = (left - here).abs(), (right - here).abs()
    large, small = torch.maximum(to_left, to_right), torch.minimum(to_left, to_right)
    front = torch.where(right > left, large, small)
    back = torch.where(right > left, small, large)
    one, zero = torch.ones_like(here), torch.zeros_like(here)
    front = torch.where(rising, one, torch.where(falling, zero, front))
    back = torch.where(rising, zero, torch.where(falling, one, back))
    flat = large == 0
    return torch.where(flat, one, back), torch.where(flat, one, front)


def descent_(
    force: ForceName,
    chords: Chords,
    gradients: Tensor,
    losses: Tensor,
    *,
    spring: float = 1.0,
    climbing: Tensor | None = None,
) -> Tensor:
    """Turn ``gradients`` into the direction n [k, d] to be descended along, in place.

    For p paths every tensor has an axis more, the first.

    Args:
        force: the rule.
        chords: of the k moving points.
        gradients: [k, d], weight decay included; overwritten by n.
        losses: [k, 3], at the left neighbour, the point and the right neighbour.
        spring: k of ``spring``, in units of loss over length squared.
        climbing: [k] of bool, the points that climb.

    Returns:
        Lengths [k] of what was taken out of each gradient.
    """
    along_back, along_front = chords.along(gradients)
    if force == "paper":
        from_back = 0.5 * _ratio(along_back, chords.back_back)
        from_front = 0.5 * _ratio(along_front, chords.front_front)
    else:
        if force == "string":
            back = front = torch.ones_like(along_back)
        else:
            back, front = (w.to(along_back.dtype) for w in upwind_weights(losses))
        square = (
            back * back * chords.back_back
            + 2 * back * front * chords.back_front
            + front * front * chords.front_front
        )
        along = _ratio(back * along_back + front * along_front, square)
        share = along
        if force == "spring":
            stretch = chords.front_front.sqrt() - chords.back_back.sqrt()
            share = share + spring * _ratio(stretch, square.sqrt())
        if climbing is not None:
            share = torch.where(climbing, 2 * along, share)
        from_back, from_front = share * back, share * front
    gradients.addcmul_(from_back[..., None], chords.back, value=-1)
    gradients.addcmul_(from_front[..., None], chords.front, value=-1)
    taken = (
        from_back * from_back * chords.back_back
        + 2 * from_back * from_front * chords.back_front
        + from_front * from_front * chords.front_front
    )
    return taken.clamp_min(0).sqrt()


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Inner products [..., m, n] of the rows of ``left`` [..., m, d] with those of ``right`` [..., n, d].

    Each array is read once, where a product and a sum would write and read one more.
    """
    return torch.matmul(left, right.transpose(-1, -2))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, and 0 where a chord has no length."""
    return torch.where(whole > 0, part / whole, torch.zeros_like(part))
