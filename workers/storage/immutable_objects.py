"""Immutable objects, whose names contain the digest of their bytes, so that every read is checked.

Publishing the same bytes twice is harmless. An object whose bytes do not have the digest of its name is
damaged: reading it raises `Damaged`, the damage is remembered, and the object counts as absent.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from workers.storage import object_names as layout
from workers.storage.object_names import ObjectName
from workers.storage.objects import NotFound, Objects, StoreUnreachable
from workers.storage.schema import SchemaError

READERS = 8
"""Number of objects that are read in parallel: an object store answers parallel requests faster."""

N = TypeVar("N")
T = TypeVar("T")


class Damaged(Exception):
    """An object is missing, or its bytes are not those that were published; the message names it."""


@dataclass(frozen=True)
class Damage:
    """The name of a damaged object, and a sentence about the damage."""

    name: str
    reason: str


class ImmutableObjects:
    """Immutable objects of one run."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._damage: dict[str, Damage] = {}

    def publish(self, folder: str, stem: str, suffix: str, data: bytes) -> str:
        """Publish an object; returns its name."""
        name = str(layout.name_of(folder, stem, suffix, data))
        self.objects.put(name, data)
        return name

    def names(self, folder: str = "") -> list[ObjectName]:
        """The names of the immutable objects below a folder, sorted; objects with other names are ignored."""
        parsed = (layout.parse_name(info.name) for info in self.objects.list(folder))
        return [name for name in parsed if name is not None]

    def read(self, name: ObjectName | str, decode: Callable[[bytes], T]) -> T:
        """Read an object, check its digest, and decode it.

        Args:
            name: of the object.
            decode: converts its bytes; it raises `SchemaError` for bytes that it cannot convert.

        Raises:
            Damaged: its bytes are not those that were published; `damage` lists it from then on.
            NotFound: there is no such object.
        """
        text = str(name)
        data = self.objects.get(text)
        parsed = layout.parse_name(text)
        try:
            if parsed is None or layout.content_digest(data) != parsed.digest:
                raise SchemaError("its bytes do not have the digest in its name")
            return decode(data)
        except SchemaError as error:
            damage = Damage(text, f"{text} is damaged: {error}")
            self._damage[text] = damage
            raise Damaged(damage.reason) from None

    def read_json(self, name: ObjectName) -> dict[str, Any] | None:
        """Read a JSON object; None if it is damaged or does not exist."""
        try:
            return self.read(name, _json_object)
        except (Damaged, NotFound):
            return None

    def delete(self, names: Iterable[ObjectName | str]) -> None:
        for name in names:
            self.objects.delete(str(name))
            self._damage.pop(str(name), None)

    def verify(self, names: Iterable[ObjectName]) -> list[Damage]:
        """Read objects and compare them with the digests in their names; returns the damaged ones."""
        return [damage for damage in self.each(self._verify, names) if damage is not None]

    def note(self, damage: Damage) -> None:
        self._damage[damage.name] = damage

    @property
    def damage(self) -> list[Damage]:
        """The known damaged objects that were not deleted since, sorted by name."""
        return [self._damage[name] for name in sorted(self._damage)]

    @staticmethod
    def each(action: Callable[[N], T], names: Iterable[N]) -> list[T]:
        """Apply a function to many names, `READERS` at a time; returns its results in the order of the
        names.

        A call to which the store gave no answer is repeated, as long as other calls succeed: of thousands of
        requests a few fail although the store works.

        Raises:
            StoreUnreachable: `READERS` calls in a row got no answer, or all of the remaining ones.
        """
        left = dict(enumerate(names))
        results: dict[int, T] = {}
        with ThreadPoolExecutor(READERS) as pool:
            while left:
                calls = {number: pool.submit(action, name) for number, name in left.items()}
                in_a_row, limit = 0, min(READERS, len(left))
                try:
                    for number, call in calls.items():
                        try:
                            results[number] = call.result()
                        except StoreUnreachable:
                            in_a_row += 1
                            if in_a_row == limit:
                                raise
                        else:
                            in_a_row = 0
                            del left[number]
                finally:
                    for call in calls.values():
                        call.cancel()
        return [results[number] for number in range(len(results))]

    def _verify(self, name: ObjectName) -> Damage | None:
        try:
            self.read(name, lambda data: None)
        except NotFound:  # deleted after it was listed
            return None
        except Damaged:
            return self._damage[str(name)]
        return None


def json_bytes(value: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(value), indent=1).encode()


def _json_object(data: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as error:
        raise SchemaError(f"it is not readable as JSON ({error})") from None
