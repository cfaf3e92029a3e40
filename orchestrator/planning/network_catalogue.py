"""Lists the networks that a run file can name, with their numbers of parameters for a default input."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from workers.problems.networks import build, count_parameters
from workers.problems.text import CONTEXT, alphabet, descriptions
from workers.tasks.specs import TORCHVISION, NetworkSpec

_IMAGES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
_IMAGENET = (3, 224, 224)


@dataclass(frozen=True)
class ListedNetwork:
    """A network that a run file can name, and its size for one kind of input.

    Attributes:
        name: in the run file.
        parameters: number of parameters for this input.
        data: data set with this input shape and number of classes.
        input_shape: shape of one example.
        classes: number of classes.
        options: names of the options that the network takes.
    """

    name: str
    parameters: int
    data: str
    input_shape: tuple[int, ...]
    classes: int
    options: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def networks(*, torchvision: bool = False) -> Iterator[ListedNetwork]:
    """Yield the networks of this program and, if asked, the classifiers of torchvision.

    The parameters of the former are counted; torchvision states those of the latter.
    """
    for name, options in NetworkSpec.known().items():
        data, shape, classes = _default_input(name)
        module = build(NetworkSpec(name), shape, classes)
        yield ListedNetwork(name, count_parameters(module), data, shape, classes, options)
    if torchvision:
        yield from _torchvisions()


def _default_input(name: str) -> tuple[str, tuple[int, ...], int]:
    """The data set, the input shape and the number of classes for which a network is listed."""
    if name == "transformer":
        return "text", (CONTEXT,), len(alphabet(descriptions()))
    data = "mnist" if name == "fc" else "cifar10"
    return data, _IMAGES[data], 10


def _torchvisions() -> Iterator[ListedNetwork]:
    from workers.problems.torchvision_import import models

    for name in models.list_models(module=models):
        meta = models.get_model_weights(name).DEFAULT.meta
        classes = len(meta["categories"])
        yield ListedNetwork(
            f"{TORCHVISION}{name}", meta["num_params"], "imagenet", _IMAGENET, classes, ()
        )


def networks_view(listed: Iterator[ListedNetwork]) -> RenderableType:
    """A table for a terminal."""
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading, justify in (
        ("network", "left"),
        ("parameters", "right"),
        ("for", "left"),
        ("options", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for network in listed:
        shape = "x".join(map(str, network.input_shape))
        table.add_row(
            network.name,
            f"{network.parameters:,}",
            f"{network.data} {shape}",
            ", ".join(network.options),
        )
    more = "Any classifier of torchvision as torchvision:NAME, your own as module:callable."
    return Group(table, Text(more, style="dim"))
