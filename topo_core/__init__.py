"""Topological obstructions in loss landscapes: paths, passes and barcodes of minima.

This package is the mathematics. It knows a loss as an ``Objective`` and reads no files.

What computes with torch is imported when it is asked for: torch takes seconds to import, and whoever plans
a run, or reads one, has only settings and barcodes in mind.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from topo_core.barcode import Bar, Barcode, barcode
from topo_core.bottleneck import bottleneck
from topo_core.certificate import (
    Certificate,
    CertifiedBar,
    HeightInterval,
    Jackknife,
    certify,
    height_interval,
    jackknife,
    standard_error,
)
from topo_core.dips import DenseBarcode, Dip, dense_barcode
from topo_core.filtration import Filtration, filtration
from topo_core.insertion_settings import Insertion
from topo_core.merge_tree import Join, Leaf, MergeTree, merge_tree
from topo_core.optimizer_settings import OptimizerSettings
from topo_core.persistence import HomologyBar, HomologyBarcode, persistence
from topo_core.schedule import Schedule
from topo_core.settings import PathSettings
from topo_core.simplex_settings import SimplexSettings
from topo_core.to_score import to_score

if TYPE_CHECKING:
    from topo_core.all_indices import (
        LandscapeBarcodes,
        LandscapeSettings,
        landscape_barcodes,
    )
    from topo_core.convergence import Evidence, Outcome
    from topo_core.draws import generator
    from topo_core.landscapes import descend
    from topo_core.objective import Objective, SegmentObjective, Step, from_function
    from topo_core.optimize import (
        PathSolution,
        advance,
        finished,
        init,
        optimize_path,
        solution,
    )
    from topo_core.profile import Profile, loss_profile
    from topo_core.saddle import Saddle, SaddleSettings, find_saddle
    from topo_core.simplex import SimplexSolution, optimize_simplex
    from topo_core.starts import initial_path
    from topo_core.state import PathState, Record
    from topo_core.walk import advance_together

_WITH_TORCH = {
    "all_indices": ("LandscapeBarcodes", "LandscapeSettings", "landscape_barcodes"),
    "convergence": ("Evidence", "Outcome"),
    "draws": ("generator",),
    "landscapes": ("descend",),
    "objective": ("Objective", "SegmentObjective", "Step", "from_function"),
    "optimize": ("PathSolution", "advance", "finished", "init", "optimize_path", "solution"),
    "profile": ("Profile", "loss_profile"),
    "saddle": ("Saddle", "SaddleSettings", "find_saddle"),
    "simplex": ("SimplexSolution", "optimize_simplex"),
    "starts": ("initial_path",),
    "state": ("PathState", "Record"),
    "walk": ("advance_together",),
}
"""The names above, as they are looked up."""


def __getattr__(name: str) -> Any:
    for module, names in _WITH_TORCH.items():
        if name in names:
            return getattr(import_module(f"topo_core.{module}"), name)
    raise AttributeError(f"module 'topo_core' has no attribute {name!r}")


__all__ = [
    "Bar",
    "Barcode",
    "Certificate",
    "CertifiedBar",
    "DenseBarcode",
    "Dip",
    "Evidence",
    "Filtration",
    "HeightInterval",
    "HomologyBar",
    "HomologyBarcode",
    "Insertion",
    "Jackknife",
    "Join",
    "LandscapeBarcodes",
    "LandscapeSettings",
    "Leaf",
    "MergeTree",
    "Objective",
    "OptimizerSettings",
    "Outcome",
    "PathSettings",
    "PathSolution",
    "PathState",
    "Profile",
    "Record",
    "Saddle",
    "SaddleSettings",
    "Schedule",
    "SegmentObjective",
    "SimplexSettings",
    "SimplexSolution",
    "Step",
    "advance",
    "advance_together",
    "barcode",
    "bottleneck",
    "certify",
    "dense_barcode",
    "descend",
    "filtration",
    "find_saddle",
    "finished",
    "from_function",
    "generator",
    "height_interval",
    "init",
    "initial_path",
    "jackknife",
    "landscape_barcodes",
    "loss_profile",
    "merge_tree",
    "optimize_path",
    "optimize_simplex",
    "persistence",
    "solution",
    "standard_error",
    "to_score",
]
