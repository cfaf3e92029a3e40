"""Update rules by name: the values of ``OptimizerSettings.name``. Each is imported when it is first used."""

from topo_core.paths.updates.protocol import Update
from topo_core.registry import Registry

UPDATES: Registry[Update] = Registry(
    {
        name: f"topo_core.paths.updates.{name}:{name.upper()}"
        for name in ("sgd", "momentum", "adam", "scaled_adam", "lion", "secant")
    }
)
