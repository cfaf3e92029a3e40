"""A loop of passes as a closed polygon that a disc can span.

Two descents to a minimum often end in one valley. A closed polygon down the valley and back up has a spike
there, and a disc that spans it would cross the hills beside it. So the spike is cut off where the two
descents part. The strip between them is measured, and counts as part of the disc.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from topo_core.morse.candidate_loops import Loop
from topo_core.morse.passes import Pass
from topo_core.objectives.protocol import Objective
from topo_core.paths.polyline import resample
from topo_core.paths.profiles import loss_profile

_CLOSE = 0.02  # distance of descents that run together, relative to the extent of the loop
_SAMPLES = 129  # points of a descent that are compared with another


def closed_polygon(
    objective: Objective, passes: Sequence[Pass], loop: Loop
) -> tuple[Tensor, float]:
    """The closed polygon [k, d] along ``loop`` from its highest saddle, and the highest loss cut off.

    The second is over the strips between descents that run together; -infinity where nothing is cut off.
    """
    steps = list(loop.steps)
    highest = max(range(len(steps)), key=lambda k: passes[steps[k][0]].height)
    steps = steps[highest:] + steps[:highest]
    # Halves of passes, from saddle to minimum and from minimum to saddle, in their order along the loop.
    downs, ups = [], []
    for edge, forward in steps:
        one = passes[edge]
        path, top = (
            (one.path, one.top) if forward else (one.path.flip(0), len(one.path) - 1 - one.top)
        )
        ups.append(path[: top + 1])
        downs.append(path[top:])
    extent = float(torch.cat(downs + ups).std(0).norm()) * math.sqrt(12)
    parts, strip = [], -math.inf
    for number, down in enumerate(downs):
        first, second, between = _parted(objective, down, ups[(number + 1) % len(ups)], extent)
        parts += [first, second]
        strip = max(strip, between)
    turn = [part if number == 0 else part[1:] for number, part in enumerate(parts)]
    return torch.cat(turn), strip


def _parted(
    objective: Objective, down: Tensor, up: Tensor, extent: float
) -> tuple[Tensor, Tensor, float]:
    """``down`` to a minimum and ``up`` from it, cut where they meet, and the highest loss between them."""
    first, second = resample(down.flip(0), _SAMPLES), resample(up, _SAMPLES)
    apart = torch.cdist(first, second)
    nearest, partner = apart.min(1)
    together = int((nearest <= _CLOSE * extent).cummin(0).values.sum())
    # Both keep a part: one inside the other would leave no loop.
    while together > 1 and int(partner[together - 1]) > _SAMPLES - 2:
        together -= 1
    together = min(together, _SAMPLES - 1)
    if together < 2:
        return down, up, -math.inf
    last, other = together - 1, int(partner[together - 1])
    if last == 0 or other == 0:
        return down, up, -math.inf
    rungs = torch.stack([first[:together], second[partner[:together]]], dim=1)
    between = max(loss_profile(objective, rung).maximum for rung in rungs[1 :: max(1, last // 8)])
    return first[last:].flip(0), second[other:], between
