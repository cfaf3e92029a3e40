"""Topological obstructions in loss landscapes: paths, passes and barcodes of minima.

This package is the mathematics. It knows a loss as an ``Objective`` and reads no files.
"""

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
from topo_core.convergence import Evidence, Outcome
from topo_core.dips import DenseBarcode, Dip, dense_barcode
from topo_core.draws import generator
from topo_core.filtration import Filtration, filtration
from topo_core.insertion import Insertion
from topo_core.landscape_barcodes import (
    LandscapeBarcodes,
    LandscapeSettings,
    landscape_barcodes,
)
from topo_core.landscapes import descend
from topo_core.merge_tree import Join, Leaf, MergeTree, merge_tree
from topo_core.objective import Objective, SegmentObjective, Step, from_function
from topo_core.optimize import (
    PathSolution,
    advance,
    finished,
    init,
    optimize_path,
    solution,
)
from topo_core.optimizers import OptimizerSettings
from topo_core.persistence import HomologyBar, HomologyBarcode, persistence
from topo_core.profile import Profile, loss_profile
from topo_core.saddle import Saddle, SaddleSettings, find_saddle
from topo_core.schedule import Schedule
from topo_core.settings import PathSettings
from topo_core.simplex import SimplexSettings, SimplexSolution, optimize_simplex
from topo_core.starts import initial_path
from topo_core.state import PathState, Record
from topo_core.to_score import to_score
from topo_core.walk import advance_together

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
