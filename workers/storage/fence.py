"""Which records and failures count after another driver has taken the run over.

The names of segments and failures begin with the lease term of the driver whose worker published them. A
driver that takes the run over writes down, once, which of them exist: the book `run/accepted-<its term>`.
From then on a name counts if its term is at least that of the newest book, or if that book lists it. So
what workers of a former driver still publish is ignored, and none of them has to know.

A book is published twice, since a damaged book would decide nothing. Where both copies are damaged, names
of earlier terms count only if an older book lists them: what a fenced driver published is never
admitted again, at the price that sound results of those terms are computed anew.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from workers.storage import object_names
from workers.storage.immutable_objects import Published, json_bytes
from workers.storage.object_names import Name

_BOOK = "accepted-"
_FENCED = {"segments": object_names.RECORDS, "failures": object_names.FAILURES}


class Fence:
    """The books of one run."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self._read: dict[Name, Mapping[str, Any]] = {}

    def close(self, term: int) -> None:
        """Open the book of a new lease term: names of earlier terms that exist now count, later ones do not.

        Args:
            term: of the lease that is held now.
        """
        book = {}
        for entry, folder in _FENCED.items():
            accepted = self.accepted(self._names(folder))
            book[entry] = [str(name) for name in accepted if name.number < term]
        stem = _BOOK + object_names.numbered(term)
        for copy in (stem, f"{stem}-copy"):
            self._published.publish(object_names.RUN, copy, "json", json_bytes(book))
        self._published.delete(name for name in self._books() if name.number < term)

    def accepted(self, names: Sequence[Name]) -> list[Name]:
        """Those of the names that count.

        Books are listed after the names, so a name that was published late is never seen without the
        book that leaves it out.
        """
        books = self._books()
        if not books:
            return list(names)
        newest = books[0].number
        listed: set[str] = set()
        for _, copies in groupby(books, lambda book: book.number):
            contents = [content for copy in copies if (content := self._content(copy)) is not None]
            if contents:
                listed = {name for entry in _FENCED for name in contents[0].get(entry, ())}
                break
        return [name for name in names if name.number >= newest or str(name) in listed]

    def late(self) -> list[Name]:
        """Segments and failures that were published after their driver was fenced off."""
        names = [name for folder in _FENCED.values() for name in self._names(folder)]
        accepted = set(self.accepted(names))
        return [name for name in names if name not in accepted]

    def _names(self, folder: str) -> list[Name]:
        return [name for name in self._published.names(folder) if name.stem[:8].isdigit()]

    def _books(self) -> list[Name]:
        """The newest first."""
        names = self._published.names(object_names.RUN)
        books = [name for name in names if name.stem.startswith(_BOOK)]
        return sorted(books, key=lambda book: book.number, reverse=True)

    def _content(self, book: Name) -> Mapping[str, Any] | None:
        if book not in self._read:
            content = self._published.read_json(book)
            if content is None:
                return None
            self._read = {book: content}  # of the newest readable book alone
        return self._read[book]
