"""A loop of passes as a closed polygon that a disc can span.

Two descents to a minimum often enter one valley and end together. A polygon down the valley and back up has
a spike, which a disc cannot span flat: it would cross the hills beside. So the spike is cut off where the two
descents part; the strip between them is measured and counts as part of the disc.
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

_CLOSE = 0.02  # of the extent of the loop: ways that are this close run together
_SAMPLES = 129  # of a way, to see how far it runs with another


def closed_walk(objective: Objective, passes: Sequence[Pass], loop: Loop) -> tuple[Tensor, float]:
    """The closed polygon [k, d] along ``loop`` from its highest saddle, and the loss of what is cut.

    The second is the highest loss on the strips between ways that run together; -infinity without.
    """
    steps = list(loop.steps)
    highest = max(range(len(steps)), key=lambda k: passes[steps[k][0]].height)
    steps = steps[highest:] + steps[:highest]
    # Half ways from saddle to minimum and from minimum to saddle, in the order of the walk.
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
    turn = [part if place == 0 else part[1:] for place, part in enumerate(parts)]
    return torch.cat(turn), strip


def _parted(
    objective: Objective, down: Tensor, up: Tensor, extent: float
) -> tuple[Tensor, Tensor, float]:
    """``down`` to a minimum and ``up`` from it, cut where they meet, and the loss between."""
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
