"""The reference landscapes by name: add one here, with a file that says where its numbers come from."""

from collections.abc import Callable, Mapping

from topo_core.reference_landscapes.flat_minimum import flat_minimum_network
from topo_core.reference_landscapes.landscape import Landscape
from topo_core.reference_landscapes.lennard_jones import lennard_jones_7
from topo_core.reference_landscapes.schwefel import schwefel
from topo_core.reference_landscapes.small_networks import iris, tanh_regression, xor
from topo_core.reference_landscapes.surfaces import (
    himmelblau,
    muller_brown,
    rastrigin_patch,
    ring_valley,
    six_hump_camel,
    sphere_valley,
    two_wells,
)
from topo_core.reference_landscapes.teacher_student import teacher_student

LANDSCAPES: Mapping[str, Callable[[], Landscape]] = {
    "flat_minimum_network": flat_minimum_network,
    "himmelblau": himmelblau,
    "iris": iris,
    "lennard_jones_7": lennard_jones_7,
    "muller_brown": muller_brown,
    "rastrigin_patch": rastrigin_patch,
    "ring_valley": ring_valley,
    "schwefel": schwefel,
    "six_hump_camel": six_hump_camel,
    "sphere_valley": sphere_valley,
    "tanh_regression": tanh_regression,
    "teacher_student": teacher_student,
    "two_wells": two_wells,
    "xor": xor,
}
