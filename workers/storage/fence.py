"""Which records and failures are accepted after another driver has taken the run over.

The names of segments and failures begin with the lease term of the driver whose worker published them. A
driver that takes the run over lists the existing names once, in the manifest `run/accepted-<its term>`.
From then on a name is accepted if its term is at least that of the newest manifest, or if that manifest lists
it. So objects that workers of a former driver publish later are ignored, without any message to them.

A manifest is published twice, because without a readable one nothing can be decided. If both copies are
damaged, names of earlier terms are accepted only if an older manifest lists them. So late results of a fenced
driver are never accepted, at the price that some sound results of earlier terms are computed again.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from workers.storage import object_names
from workers.storage.immutable_objects import Published, json_bytes
from workers.storage.object_names import Name

_MANIFEST = "accepted-"
_FENCED = {"segments": object_names.RECORDS, "failures": object_names.FAILURES}


class Fence:
    """The manifests of one run."""

    def __init__(self, published: Published) -> None:
        self._published = published
        self._read: dict[Name, Mapping[str, Any]] = {}

    def close(self, term: int) -> None:
        """Publish the manifest of a new lease term: names of earlier terms are accepted if they exist now.

        Args:
            term: of the lease that is held now.
        """
        manifest = {}
        for entry, folder in _FENCED.items():
            accepted = self.accepted(self._names(folder))
            manifest[entry] = [str(name) for name in accepted if name.number < term]
        stem = _MANIFEST + object_names.numbered(term)
        for copy in (stem, f"{stem}-copy"):
            self._published.publish(object_names.RUN, copy, "json", json_bytes(manifest))
        self._published.delete(name for name in self._manifests() if name.number < term)

    def accepted(self, names: Sequence[Name]) -> list[Name]:
        """The accepted ones among the names.

        The manifests are listed after the names. So a name that was published late is never read without
        the manifest that excludes it.
        """
        manifests = self._manifests()
        if not manifests:
            return list(names)
        newest = manifests[0].number
        listed: set[str] = set()
        for _, copies in groupby(manifests, lambda manifest: manifest.number):
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

    def _manifests(self) -> list[Name]:
        """Names of the manifests, the newest first."""
        names = self._published.names(object_names.RUN)
        manifests = [name for name in names if name.stem.startswith(_MANIFEST)]
        return sorted(manifests, key=lambda manifest: manifest.number, reverse=True)

    def _content(self, manifest: Name) -> Mapping[str, Any] | None:
        if manifest not in self._read:
            content = self._published.read_json(manifest)
            if content is None:
                return None
            self._read = {manifest: content}  # of the newest readable manifest alone
        return self._read[manifest]
