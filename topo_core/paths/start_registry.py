"""Starts by name: the values of ``PathSettings.start``, what each needs, and the function that makes it.

The initial path largely decides the result, since a local method stays in the valley in which it starts.
``starts.initial_paths.find_start`` makes the starts that need only the loss. Starts that need the network or
stored paths are made by the caller. A maker is imported when it is first used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from topo_core.registry import Registry, load

Needs = Literal["loss", "network", "store"]


@dataclass(frozen=True)
class StartRule:
    """How an initial path is made.

    Attributes:
        needs: ``loss``: the loss alone; ``network``: the network, for its symmetries; ``store``: stored
            paths.
        make: ``(objective, start, end, resolved settings, seed) -> Start``, or ``"module:function"``;
            None for a start that the caller makes.
        exact_gradients: whether the start needs exact gradients and refuses objectives with minibatches.
        trains_a_curve: whether the start is a trained curve, which can be interrupted and resumed.
    """

    needs: Needs
    make: Callable[..., Any] | str | None = None
    exact_gradients: bool = False
    trains_a_curve: bool = False

    @property
    def maker(self) -> Callable[..., Any] | None:
        """The function ``make``, imported if it is given by name; None for a start that the caller makes."""
        return load(self.make) if isinstance(self.make, str) else self.make


STARTS: Registry[StartRule] = Registry(
    {
        # The straight line of the paper (section 2.6).
        "line": StartRule("loss", "topo_core.paths.starts.initial_paths:straight"),
        # A trained curve of degree 4.
        "bezier": StartRule(
            "loss", "topo_core.paths.starts.trained_curves:trained_start", trains_a_curve=True
        ),
        # The lowest route over verified saddles.
        "saddles": StartRule(
            "loss", "topo_core.paths.starts.saddle_start:saddles_start", exact_gradients=True
        ),
        # The lowest of the line, arches beside it, and routes over other minima.
        "routes": StartRule(
            "loss", "topo_core.paths.starts.minimax_search:routes_start", exact_gradients=True
        ),
        # The line to a copy of the end with renumbered hidden units.
        "aligned": StartRule("network"),
        # Optimised paths through other minima, joined end to end.
        "through": StartRule("store"),
        # The path of an earlier run.
        "warm": StartRule("store"),
        # The path of an earlier run between the same pair numbers, with its ends moved to the minima of this
        # run.
        "moved": StartRule("store"),
    }
)
