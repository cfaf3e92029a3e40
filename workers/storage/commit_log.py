"""The commit log: it alone says which segments of records count.

A segment is published by a worker and counts once the driver has committed its name. Commit 42 is the
object `log/00000042.json`. It holds the complete state, not a change of it, so a reader needs the newest
commit alone. Its size stays small because segments are compacted.

**One writer.** A commit is created only if no object of its name exists, so of two drivers that write
commit 42 exactly one succeeds. A commit of a driver whose lease term is over fails, because the next driver
begins its term with a commit of its own. Separate names are used, instead of one object that is replaced,
because Google Cloud Storage replaces one object at most once a second.

**Fencing.** A driver that takes a run over lists the segments once and adopts those that its predecessor's
workers published and that were not committed. Segments of earlier terms that appear later never count.

**Damage.** A commit carries the digest of its content. If the newest one is damaged, the one before it is
read; the newest three are kept. Each term begins with two commits, so the one before the newest has the
same term and still excludes late segments of earlier terms. Segments that only the damaged commit named are
adopted by the next driver. If no commit can be read, every segment counts that exists and is intact.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workers.storage import object_names
from workers.storage.immutable_objects import Damage, Published
from workers.storage.object_names import Name, parse_name
from workers.storage.objects import AlreadyExists, Fenced, NotFound, Objects, StoreUnreachable
from workers.tasks.results import Segment

KEPT_COMMITS = 3
"""The newest commit and two older ones, in case it is damaged."""

_ATTEMPTS = 10
"""Attempts to list and read the log: each fails if another process deletes the listed commits in between."""


@dataclass(frozen=True)
class Commit:
    """The state of a run's records.

    Attributes:
        number: of the commit; 0 where the store has no log yet.
        term: of the lease of the driver that wrote it.
        segments: size in bytes of each segment that counts, by name. Of two records of one key the one in
            the earlier segment counts.
        removed: segments whose records were copied into others and whose objects may still exist.
        failures: name of the object with the failures of earlier terms; None if there is none.
    """

    number: int = 0
    term: int = 0
    segments: Mapping[str, int] = field(default_factory=dict)
    removed: Sequence[str] = ()
    failures: str | None = None

    def of(self, collection: str) -> dict[Name, int]:
        """Size in bytes of each segment of one kind of records, by name, in order."""
        folder = object_names.records_folder(collection)
        parsed = ((parse_name(name), size) for name, size in self.segments.items())
        return {name: size for name, size in parsed if name is not None and name.folder == folder}


class CommitLog:
    """The log of one run. A driver commits from more than one thread; commits are made one after another."""

    def __init__(self, published: Published) -> None:
        self._published, self._objects = published, published.objects
        self._held: Commit | None = None
        self._read: Commit | None = None
        self._lock = threading.RLock()

    def latest(self) -> Commit:
        """The newest commit that can be read.

        A driver that has taken the run over is the only writer and asks the store for nothing. Others list
        the log, and read a commit that they have not read before. In a store without a readable commit,
        all segments that exist count.
        """
        with self._lock:
            return self._held or self._newest()[1]

    def commit(self, segments: Iterable[Segment], *, term: int) -> Commit:
        """Let segments count, after those that count already; without a new name nothing is written.

        Args:
            segments: that are published.
            term: of the lease that is held now.

        Raises:
            Fenced: a driver of a later term has written to the log.
        """
        with self._lock:
            state = self.latest()
            new = {name: size for name, size in segments if name not in state.segments}
            if not new:
                return state
            return self._change(lambda state: _with(state, new), term)

    def replace(self, old: Sequence[str], new: Iterable[Segment], *, term: int) -> None:
        """Let new segments count in place of old ones, then delete the objects of the old ones.

        Args:
            old: names of segments.
            new: segments that hold their records.
            term: of the lease that is held now.

        Raises:
            Fenced: see `commit`.
        """
        gone, added = set(old), dict(new)

        def change(state: Commit) -> Commit:
            left = {name: size for name, size in state.segments.items() if name not in gone}
            removed = (*state.removed, *old)
            return _with(replace(state, segments=left, removed=removed), added)

        self._change(change, term)
        self._published.delete(old)
        with self._lock:
            if self._held is not None:  # the next commit need not name them any more
                left = tuple(name for name in self._held.removed if name not in gone)
                self._held = replace(self._held, removed=left)

    def take_over(self, term: int, failures: Callable[[Commit], str | None]) -> None:
        """Begin a lease term: adopt the segments that exist and were not committed, and exclude later ones.

        Args:
            term: of the lease that is held now.
            failures: publishes the failures that count before this commit; returns the object's name.

        Raises:
            Fenced: a driver of a later term has written to the log.
        """

        def begin(state: Commit) -> Commit:
            self._published.delete(state.removed)
            listed = self._listed()
            adopted = {
                name: size
                for name, size in listed.items()
                if name not in state.segments and _term(name) >= state.term
            }
            kept = {name: size for name, size in state.segments.items() if name in listed}
            return Commit(segments=kept | adopted, failures=failures(state))

        with self._lock:
            self._held = None
            damaged = [damage.name for damage in self.damage()]
            self._change(begin, term)
            self._held = self._change(lambda state: state, term)
            self._published.delete(damaged)

    def adopt(self, workers: Collection[str] | None, *, term: int) -> list[str]:
        """Commit the segments that workers have published in this term and that were not committed.

        This lists the folder of segments once. Compaction keeps that folder small, so the cost does not
        depend on the size of the run.

        Args:
            workers: names of the workers; None for all.
            term: of the lease that is held now.

        Returns:
            The names of the adopted segments.

        Raises:
            Fenced: see `commit`.
        """
        with self._lock:
            known = self.latest()
            published = [
                Segment(name, size)
                for name, size in self._listed().items()
                if name not in known.segments and name not in known.removed
                if _term(name) == term
                if workers is None or object_names.segment_worker(name) in workers
            ]
            self.commit(published, term=term)
            return [segment.name for segment in published]

    def late(self) -> list[str]:
        """Segments that do not count and never will: of a fenced driver's workers, or copied into others."""
        state = self.latest()
        return [
            name
            for name in self._listed()
            if name not in state.segments
            if name in state.removed or _term(name) < state.term
        ]

    def damage(self) -> list[Damage]:
        """The commits that exist and cannot be read."""
        return [
            Damage(name, f"{name} is damaged: it is not the commit that was written")
            for name in map(object_names.commit_name, self._numbers())
            if isinstance(self._content(name), _Unreadable)
        ]

    def _change(self, change: Callable[[Commit], Commit], term: int) -> Commit:
        """Create the next commit from the newest one, again if another process created it first."""
        with self._lock:
            for _ in range(_ATTEMPTS):
                number, state = (
                    self._newest() if self._held is None else (self._held.number, self._held)
                )
                if state.term > term:
                    raise Fenced(
                        "Another driver has taken this run over; this one has stopped writing to it."
                    )
                commit = replace(change(state), number=number + 1, term=term)
                try:
                    self._objects.create(object_names.commit_name(number + 1), _encode(commit))
                except AlreadyExists:
                    if self._held is not None:
                        self._held = self._newest()[1]
                    continue
                if self._held is not None:
                    self._held = commit
                self._read = commit
                if number >= KEPT_COMMITS:
                    self._objects.delete(object_names.commit_name(number + 1 - KEPT_COMMITS))
                return commit
            raise StoreUnreachable(
                f"Other processes keep writing to the log of {self._objects.url}."
            )

    def _newest(self) -> tuple[int, Commit]:
        """The highest number of a commit, and the newest commit that can be read."""
        for _ in range(_ATTEMPTS):
            numbers = self._numbers()
            for number in reversed(numbers):
                if self._read is not None and self._read.number == number:
                    return numbers[-1], self._read
                content = self._content(object_names.commit_name(number))
                if content is None:  # deleted by the driver after newer commits
                    break
                if isinstance(content, Commit):
                    self._read = content
                    return numbers[-1], content
            else:
                return max(numbers, default=0), Commit(segments=self._listed())
        raise StoreUnreachable(
            f"{self._objects.url} lists commits that cannot be read: check the store."
        )

    def _numbers(self) -> list[int]:
        """Numbers of the commits that exist, increasing."""
        names = (info.name for info in self._objects.list(object_names.LOG))
        numbers = (object_names.commit_number(name) for name in names)
        return sorted(number for number in numbers if number is not None)

    def _content(self, name: str) -> "Commit | _Unreadable | None":
        """A commit; None if it does not exist."""
        try:
            return _decode(self._objects.get(name))
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError):
            return _Unreadable()

    def _listed(self) -> dict[str, int]:
        """Size in bytes of each segment that exists, by name, sorted by term within each kind."""
        parsed = (
            (parse_name(info.name), info.size) for info in self._objects.list(object_names.RECORDS)
        )
        return {
            str(name): size for name, size in parsed if name is not None and name.stem[:8].isdigit()
        }


class _Unreadable:
    """In place of a damaged commit."""


def highest_term(objects: Objects) -> int:
    """The highest lease term that objects of a store name; 0 if there is none."""
    names = (parse_name(info.name) for info in objects.list(object_names.RUN))
    stems = (part for name in names if name is not None for part in name.stem.split("-"))
    in_names = max((int(part) for part in stems if part.isdigit()), default=0)
    return max(in_names, CommitLog(Published(objects)).latest().term)


def _with(state: Commit, segments: Mapping[str, int]) -> Commit:
    fresh = {name: size for name, size in segments.items() if name not in state.segments}
    return replace(state, segments={**state.segments, **fresh})


def _term(name: str) -> int:
    parsed = parse_name(name)
    return 0 if parsed is None else parsed.number


def _encode(commit: Commit) -> bytes:
    """JSON with the digest of its other entries; the token makes the bytes of each writer unique."""
    entries = {
        "commit": commit.number,
        "term": commit.term,
        "segments": dict(commit.segments),
        "removed": list(commit.removed),
        "failures": commit.failures,
        "token": secrets.token_hex(8),
    }
    return json.dumps({"sha256": _digest(entries), **entries}, indent=1).encode()


def _decode(data: bytes) -> Commit:
    """Raises ValueError, KeyError or TypeError for bytes that are not those of a commit."""
    entries = dict(json.loads(data))
    if entries.pop("sha256") != _digest(entries):
        raise ValueError("its content does not have its digest")
    return Commit(
        entries["commit"],
        entries["term"],
        entries["segments"],
        tuple(entries["removed"]),
        entries["failures"],
    )


def _digest(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
