"""Objects known by name: the one place where a name of a settings object becomes an object."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A mapping from names to objects of one kind, in the order of registration.

    An object may be given as ``"module:attribute"``, and is then imported when it is first asked for: names
    can be checked without importing torch.

    Args:
        entries: the objects of this package.
    """

    def __init__(self, entries: Mapping[str, T | str]) -> None:
        self._entries: dict[str, T | str] = dict(entries)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, str):
            entry = cast(T, load(entry))
            self._entries[name] = entry
        return entry

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def register(self, name: str, entry: T) -> None:
        """Add an object under a new name.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._entries:
            raise ValueError(f"the name {name!r} is taken; choose another.")
        self._entries[name] = entry

    def check(self, key: str, name: object) -> None:
        """See that ``name``, the value of the setting ``key``, is known.

        Raises:
            ValueError: it is not; the message lists the names that are.
        """
        if not isinstance(name, str) or name not in self._entries:
            raise ValueError(f"{key} is {name!r}; choose one of {', '.join(self)}.")


def load(where: str) -> Any:
    """The attribute named by ``"module:attribute"``."""
    module, _, attribute = where.partition(":")
    return getattr(import_module(module), attribute)
