"""Failures of tasks. The driver publishes each failure as one object.

A failure counts if it has the lease term of the newest commit. When a new term begins, the failures that
count are copied into one object, which the commits of the new term name. So a failure that a fenced driver
publishes late never counts, and the size of a commit does not depend on the number of failures.
"""

from collections.abc import Mapping
from typing import Any

from workers.storage import object_names
from workers.storage.commit_log import CommitLog
from workers.storage.commits import Commit
from workers.storage.immutable_objects import ImmutableObjects, json_bytes
from workers.storage.object_names import ObjectName, parse_name


class Failures:
    """The failures of one run."""

    def __init__(self, published: ImmutableObjects, log: CommitLog) -> None:
        self._published, self._log = published, log

    def publish(self, key: str, failure: Mapping[str, Any], *, term: int) -> None:
        """Publish why a task failed.

        Args:
            key: of the task.
            failure: values that JSON can encode.
            term: of the lease that is held now.
        """
        stem = object_names.failure_stem(term, key)
        self._published.publish(object_names.FAILURES, stem, "json", json_bytes(failure))

    def read(self) -> dict[str, dict[str, Any]]:
        """The failures that count, by key of the task; if a task has several, the one of the latest term."""
        return self._of(self._log.latest())

    def carry_over(self, state: Commit, term: int) -> str | None:
        """Copy the failures that count into one object, for the first commit of a term.

        Args:
            state: the newest commit of the previous term.
            term: that begins.

        Returns:
            The object's name; None if there are no failures.
        """
        failures = self._of(state)
        if not failures:
            return None
        stem = f"earlier-{object_names.numbered(term)}"
        data = json_bytes(failures)
        return self._published.publish(object_names.FAILURES, stem, "json", data)

    def clear(self) -> int:
        """Delete all failures; returns the number of those that counted."""
        count = len(self.read())
        self._published.delete(self._published.names(object_names.FAILURES))
        return count

    def late(self) -> list[str]:
        """Names of the failures that can never count."""
        state = self._log.latest()
        names = [str(name) for name in self._published.names(object_names.FAILURES)]
        counting = {*map(str, self._current(state)), state.failures}
        return [name for name in names if name not in counting]

    def _of(self, state: Commit) -> dict[str, dict[str, Any]]:
        earlier = parse_name(state.failures) if state.failures else None
        failures = (self._published.read_json(earlier) if earlier else None) or {}
        current = {_key(name): name for name in self._current(state)}
        contents = self._published.each(self._published.read_json, current.values())
        for key, content in zip(current, contents, strict=True):
            if content is not None:
                failures[key] = content
        return failures

    def _current(self, state: Commit) -> list[ObjectName]:
        """Names of the objects of single failures that count, sorted by term."""
        names = self._published.names(object_names.FAILURES)
        single = [name for name in names if name.stem[:8].isdigit() and name.stem[8:9] == "-"]
        return [name for name in single if name.number >= state.term]


def _key(name: ObjectName) -> str:
    return name.stem[9:]
