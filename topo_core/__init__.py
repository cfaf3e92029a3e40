"""Topological obstructions in loss landscapes: paths, passes and barcodes of minima.

This package is the mathematics. It knows a loss as an ``Objective`` and reads no files.

Modules that compute with torch are imported on first use: torch takes seconds to import, and planning or
reading a run needs settings and barcodes only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from topo_core.homology.barcodes import Bar, Barcode, barcode
from topo_core.homology.bottleneck_distance import bottleneck
from topo_core.homology.convergence_estimate import ConvergenceEstimate, estimate_convergence
from topo_core.homology.dense_barcodes import DenseBarcode, Dip, dense_barcode
from topo_core.homology.filtrations import Filtration, filtration
from topo_core.homology.merge_trees import Join, Leaf, MergeTree, merge_tree
from topo_core.homology.persistent_homology import HomologyBar, HomologyBarcode, persistence
from topo_core.homology.quotients import QuotientBarcode, quotient_barcode
from topo_core.homology.resampling import Jackknife, jackknife
from topo_core.homology.sampling_error import HeightInterval, SamplingError, estimate_sampling_error
from topo_core.homology.to_scores import to_score
from topo_core.homology.transition_networks import Transition, TransitionNetwork
from topo_core.paths.insertion_settings import Insertion
from topo_core.paths.schedules import Schedule
from topo_core.paths.settings import PathSettings
from topo_core.paths.update_settings import OptimizerSettings
from topo_core.simplices.settings import SimplexSettings

if TYPE_CHECKING:
    from topo_core.critical_points.classification import ClassifySettings, classify_point
    from topo_core.critical_points.minima import polish_minimum
    from topo_core.critical_points.polish_state import PolishSettings
    from topo_core.critical_points.saddles import (
        Saddle,
        SaddleDescent,
        SaddleSettings,
        descend_both_sides,
        refine_saddle,
    )
    from topo_core.critical_points.verdicts import CriticalPoint, Verdict
    from topo_core.morse.landscape_results import LandscapeBarcodes, LandscapeSettings
    from topo_core.morse.landscape_search import landscape_barcodes
    from topo_core.objectives.protocol import Objective, SegmentObjective, Step, from_function
    from topo_core.paths.convergence import Evidence, Outcome
    from topo_core.paths.optimize import optimize_path
    from topo_core.paths.profiles import Profile, loss_profile
    from topo_core.paths.solution import PathSolution
    from topo_core.paths.solver import PathSolver
    from topo_core.paths.starts.initial_paths import initial_path
    from topo_core.paths.state import EpochRecord, PathState
    from topo_core.random_streams import generator
    from topo_core.simplices.optimize import SimplexSolution, optimize_simplex

_WITH_TORCH = {
    "critical_points.classification": ("ClassifySettings", "classify_point"),
    "critical_points.minima": ("polish_minimum",),
    "critical_points.polish_state": ("PolishSettings",),
    "critical_points.verdicts": ("CriticalPoint", "Verdict"),
    "critical_points.saddles": (
        "Saddle",
        "SaddleDescent",
        "SaddleSettings",
        "descend_both_sides",
        "refine_saddle",
    ),
    "morse.landscape_results": ("LandscapeBarcodes", "LandscapeSettings"),
    "morse.landscape_search": ("landscape_barcodes",),
    "objectives.protocol": ("Objective", "SegmentObjective", "Step", "from_function"),
    "paths.convergence": ("Evidence", "Outcome"),
    "paths.optimize": ("optimize_path",),
    "paths.profiles": ("Profile", "loss_profile"),
    "paths.solution": ("PathSolution",),
    "paths.solver": ("PathSolver",),
    "paths.starts.initial_paths": ("initial_path",),
    "paths.state": ("PathState", "EpochRecord"),
    "random_streams": ("generator",),
    "simplices.optimize": ("SimplexSolution", "optimize_simplex"),
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
    "ClassifySettings",
    "ConvergenceEstimate",
    "CriticalPoint",
    "DenseBarcode",
    "Dip",
    "EpochRecord",
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
    "PathSolver",
    "PathState",
    "PolishSettings",
    "Profile",
    "QuotientBarcode",
    "Saddle",
    "SaddleDescent",
    "SaddleSettings",
    "SamplingError",
    "Schedule",
    "SegmentObjective",
    "SimplexSettings",
    "SimplexSolution",
    "Step",
    "Transition",
    "TransitionNetwork",
    "Verdict",
    "barcode",
    "bottleneck",
    "classify_point",
    "dense_barcode",
    "descend_both_sides",
    "estimate_convergence",
    "estimate_sampling_error",
    "filtration",
    "from_function",
    "generator",
    "initial_path",
    "jackknife",
    "landscape_barcodes",
    "loss_profile",
    "merge_tree",
    "optimize_path",
    "optimize_simplex",
    "persistence",
    "polish_minimum",
    "quotient_barcode",
    "refine_saddle",
    "to_score",
]
