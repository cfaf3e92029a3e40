"""Which network and which data, as a run file names them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

Value = str | int | float | bool | None | tuple[Any, ...]


def _frozen(value: Any) -> Value:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Spec:
    """A name and its options; hashable, and written back as it was read.

    A name with a colon is a user's `module:callable`, which takes any options; a known name takes
    those that `options_of` lists.
    """

    name: str
    options: tuple[tuple[str, Value], ...] = ()

    options_of: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    kind: ClassVar[str] = ""

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """From a run file's mapping.

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
        if name not in cls.options_of:
            close = difflib.get_close_matches(name, cls.options_of, 1)
            hint = f"did you mean {close[0]}?" if close else cls.names_help()
            raise ValueError(f"{cls.kind}.name is {name!r}, which is not known; {hint}")
        allowed = cls.options_of[name]
        for option in options:
            if option not in allowed:
                close = difflib.get_close_matches(option, allowed, 1)
                names = ", ".join(allowed) or "no options"
                hint = f"did you mean {close[0]}?" if close else f"{name} takes {names}."
                raise ValueError(f"{cls.kind}.{option} is not an option of {name}; {hint}")
            cls._check_value(option, options[option])

    @classmethod
    def _check_value(cls, option: str, value: Value) -> None:
        """See that a known option has a possible value; raises ValueError, in one sentence."""

    @classmethod
    def names_help(cls) -> str:
        return f"choose one of {', '.join(cls.options_of)}, or your own as module:callable"

    def canonical(self) -> dict[str, Any]:
        """As a run file writes it, keys in a fixed order."""
        return {"name": self.name, **self.keywords()}

    def keywords(self) -> dict[str, Any]:
        """The options, as a call takes them."""
        return {k: _thawed(v) for k, v in self.options}

    def option(self, name: str, default: Any) -> Any:
        return dict(self.options).get(name, default)


def _thawed(value: Value) -> Any:
    return [_thawed(v) for v in value] if isinstance(value, tuple) else value


def _counts(value: Value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class NetworkSpec(Spec):
    kind: ClassVar[str] = "network"
    options_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "fc": ("hidden",),
        "cnn1": ("channels", "batch_norm"),
        "cnn2": ("channels", "batch_norm"),
        "cnn3": ("channels", "batch_norm"),
        "resnet": ("channels",),
        "resnet_e7": ("channels",),
        "transformer": ("width", "heads", "layers"),
    }

    @classmethod
    def _check_value(cls, option: str, value: Value) -> None:
        if option == "hidden":
            right = isinstance(value, tuple) and all(map(_counts, value))
            wanted = "a list of whole numbers above 0, one a layer, as in [32, 32]"
        elif option == "batch_norm":
            right, wanted = isinstance(value, bool), "true or false"
        else:
            right, wanted = _counts(value), "a whole number above 0"
        if not right:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"network.{option} is {shown!r}; it must be {wanted}.")

    @classmethod
    def names_help(cls) -> str:
        return (
            f"choose one of {', '.join(cls.options_of)}, a classifier of torchvision as "
            "torchvision:NAME, or your own as module:callable"
        )


@dataclass(frozen=True)
class DataSpec(Spec):
    kind: ClassVar[str] = "data"
    options_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(
            ("mnist5k", "digits", "mnist", "fmnist", "cifar10", "svhn"), ("subset", "label_noise")
        ),
        "text": ("context", "subset", "label_noise"),
    }
