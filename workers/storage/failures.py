"""Failures of tasks. They are fenced as records are, and each is published by one request."""

from collections.abc import Collection, Mapping
from typing import Any

from workers.storage import object_names
from workers.storage.fence import Fence
from workers.storage.immutable_objects import Published, json_bytes
from workers.storage.object_names import Name


class Failures:
    """The failures of one run."""

    def __init__(self, published: Published, fence: Fence) -> None:
        self._published, self._fence = published, fence

    def publish(self, key: str, failure: Mapping[str, Any], *, term: int) -> None:
        """Publish why a task failed.

        Args:
            key: of the task.
            failure: anything that JSON can hold.
            term: of the lease that is held now.
        """
        stem = object_names.failure_stem(term, key)
        self._published.publish(object_names.FAILURES, stem, "json", json_bytes(failure))

    def read(self) -> dict[str, dict[str, Any]]:
        """The accepted failures by key; of several failures of one task, that of the latest term."""
        newest = {_key(name): name for name in self._fence.accepted(self._names())}
        contents = self._published.each(self._published.read_json, newest.values())
        return {
            key: content
            for key, content in zip(newest, contents, strict=True)
            if content is not None
        }

    def clear(self, keys: Collection[str] | None = None) -> int:
        """Delete the failures of some tasks, or of all; returns their number."""
        names = [name for name in self._names() if keys is None or _key(name) in keys]
        self._published.delete(names)
        return len(names)

    def _names(self) -> list[Name]:
        """Sorted, so that later terms follow earlier ones."""
        names = self._published.names(object_names.FAILURES)
        return [name for name in names if name.stem[:8].isdigit() and name.stem[8:9] == "-"]


def _key(name: Name) -> str:
    return name.stem[9:]
