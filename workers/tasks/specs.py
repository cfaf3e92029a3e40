"""Specifications of a network, a data set and a loss: a name and options, as in a run file."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from topo_core.objectives.loss_registry import LOSSES

OBJECTIVE = "objective:"
"""Prefix of `NetworkSpec.name` and `DataSpec.name` where the user's loss depends on the parameters alone. The
name of the user's `module:callable` follows it."""

Value = str | int | float | bool | None | tuple[Any, ...]


def _frozen(value: Any) -> Value:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Spec:
    """A name and its options; hashable.

    `canonical` returns the mapping that `parse` has read, up to the order of its keys. A name with a colon is
    a user's `module:callable`, which takes any options. Other names and their options are listed by `known`.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    kind: ClassVar[str] = ""

    @classmethod
    def known(cls) -> Mapping[str, tuple[str, ...]]:
        """The names that a run file may use, each with the names of its options."""
        raise NotImplementedError

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """A specification from a mapping of a run file.

        Args:
            values: the key `name`, and the options.

        Raises:
            ValueError: unknown name or option, in one sentence.
        """
        name = values["name"]
        if not isinstance(name, str):
            raise ValueError(f"{cls.kind}.name is {name!r}; it must be a name: {cls.names_help()}")
        options = {k: _frozen(v) for k, v in values.items() if k != "name"}
        cls._check(name, options)
        return cls(name, tuple(sorted(options.items())))

    @classmethod
    def _check(cls, name: str, options: Mapping[str, Value]) -> None:
        if ":" in name:
            return
        known = cls.known()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else cls.names_help()
            raise ValueError(f"{cls.kind}.name is {name!r}, which is not known; {hint}")
        allowed = known[name]
        for option in options:
            if option not in allowed:
                close = difflib.get_close_matches(option, allowed, 1)
                names = ", ".join(allowed) or "no options"
                hint = f"did you mean {close[0]}?" if close else f"{name} takes {names}."
                raise ValueError(f"{cls.kind}.{option} is not an option of {name}; {hint}")
            cls._check_value(option, options[option])

    @classmethod
    def _check_value(cls, option: str, value: Value) -> None:
        """Raise ValueError, in one sentence, if a known option has an impossible value."""

    @classmethod
    def names_help(cls) -> str:
        return f"choose one of {', '.join(cls.known())}, or your own as module:callable"

    def canonical(self) -> dict[str, Any]:
        """The mapping that a run file holds, with its keys in a fixed order."""
        return {"name": self.name, **self.keywords()}

    def keywords(self) -> dict[str, Any]:
        """The options as keyword arguments; tuples are lists again."""
        return {k: _thawed(v) for k, v in self.options}

    def option(self, name: str, default: Any) -> Any:
        return dict(self.options).get(name, default)


def _thawed(value: Value) -> Any:
    return [_thawed(v) for v in value] if isinstance(value, tuple) else value


def _counts(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


TORCHVISION = "torchvision:"
"""Prefix of the names of torchvision's classifiers. Such a name has a colon, but is no user's module."""


@dataclass(frozen=True)
class NetworkSpec(Spec):
    kind: ClassVar[str] = "network"
    activations: ClassVar[tuple[str, ...]] = (
        "relu",
        "tanh",
        "gelu",
        "softplus",
        "silu",
        "elu",
        "sigmoid",
    )

    @classmethod
    def known(cls) -> Mapping[str, tuple[str, ...]]:
        return {
            "fc": ("hidden", "activation"),
            "cnn1": ("channels", "batch_norm", "activation", "pooling"),
            "cnn2": ("channels", "batch_norm", "activation", "pooling"),
            "cnn3": ("channels", "batch_norm", "activation", "pooling"),
            "resnet": ("channels", "activation"),
            "resnet_e7": ("channels", "activation"),
            "transformer": ("width", "heads", "layers", "every_token"),
        }

    @classmethod
    def _check_value(cls, option: str, value: Value) -> None:
        if option == "hidden":
            right = isinstance(value, tuple) and all(map(_counts, value))
            wanted = "a list of whole numbers above 0, one a layer, as in [32, 32]"
        elif option in ("batch_norm", "every_token"):
            right, wanted = isinstance(value, bool), "true or false"
        elif option == "activation":
            right, wanted = value in cls.activations, f"one of {', '.join(cls.activations)}"
        elif option == "pooling":
            right, wanted = value in ("max", "mean"), "max or mean"
        else:
            right, wanted = _counts(value), "a whole number above 0"
        if not right:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"network.{option} is {shown!r}; it must be {wanted}.")

    @classmethod
    def names_help(cls) -> str:
        return (
            f"choose one of {', '.join(cls.known())}, a classifier of torchvision as "
            "torchvision:NAME, or your own as module:callable"
        )


@dataclass(frozen=True)
class DataSpec(Spec):
    kind: ClassVar[str] = "data"

    @classmethod
    def known(cls) -> Mapping[str, tuple[str, ...]]:
        images = ("mnist5k", "digits", "mnist", "fmnist", "cifar10", "cifar100", "svhn")
        return {
            **dict.fromkeys(images, ("subset", "label_noise", "shrink")),
            "text": (
                "context",
                "every_token",
                "file",
                "characters",
                "kinds",
                "subset",
                "label_noise",
            ),
        }


@dataclass(frozen=True)
class LossSpec(Spec):
    """A loss function of outputs and targets, and the ridge that is part of the loss."""

    name: str = "cross_entropy"

    kind: ClassVar[str] = "loss"
    ridge_options: ClassVar[tuple[str, ...]] = ("ridge", "ridge_on")

    @classmethod
    def known(cls) -> Mapping[str, tuple[str, ...]]:
        return {name: (*loss.options, *cls.ridge_options) for name, loss in LOSSES.items()}

    @classmethod
    def _check(cls, name: str, options: Mapping[str, Value]) -> None:
        super()._check(name, options)
        for option in cls.ridge_options:
            if option in options:
                cls._check_value(option, options[option])

    @classmethod
    def _check_value(cls, option: str, value: Value) -> None:
        if option == "ridge_on":
            right, wanted = isinstance(value, str), "a regular expression for names of parameters"
        elif option == "class_weights":
            right = isinstance(value, tuple) and all(map(_is_number, value))
            wanted = "a list of numbers, one a class"
        elif option == "ignore_index":
            right = isinstance(value, int) and not isinstance(value, bool)
            wanted = "a class number, as in -100"
        elif option == "log_input":
            right, wanted = isinstance(value, bool), "true or false"
        elif option == "ridge":
            right = _is_number(value) and value >= 0  # type: ignore[operator]
            wanted = "a number, 0 or more"
        else:
            right, wanted = _is_number(value), "a number"
        if not right:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"loss.{option} is {shown!r}; it must be {wanted}.")

    @property
    def description(self) -> str:
        """The loss function, its options and the ridge, in words."""
        name = LOSSES[self.name].words if self.name in LOSSES else f"the mean of {self.name}"
        options = ", ".join(f"{k} {v}" for k, v in self.own_keywords().items())
        ridge = ""
        if self.ridge:
            of = "" if self.ridge_on is None else f" of parameters like {self.ridge_on!r}"
            ridge = f", and ½·{self.ridge:g}·‖θ‖²{of}"
        return f"{name}{f' ({options})' if options else ''}{ridge}"

    @property
    def ridge(self) -> float:
        """λ of ½ λ‖θ‖²; 0 for none."""
        return float(self.option("ridge", 0.0))

    @property
    def ridge_on(self) -> str | None:
        """Regular expression for the names of the parameters in the ridge; None for all."""
        pattern = self.option("ridge_on", None)
        return None if pattern is None else str(pattern)

    def own_keywords(self) -> dict[str, Any]:
        """The options of the loss function, without those of the ridge."""
        return {k: v for k, v in self.keywords().items() if k not in self.ridge_options}


def _is_number(value: Value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
