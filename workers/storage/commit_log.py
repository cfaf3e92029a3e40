"""The commit log: the list of the segments of records that count.

A worker publishes a segment, and the segment counts once the driver has committed its name. Commit 42 is the
object `log/00000042.json`. A commit holds the complete list, not a change of it, so a reader needs the newest
commit only. It stays small because segments are compacted.

**One writer.** A commit is created only if no object with its name exists, so if two drivers write commit 42,
exactly one succeeds. A driver whose lease term has ended cannot commit, because the next driver begins its
term with a commit. Each commit has its own name, because Google Cloud Storage replaces one object at most
once per second.

**Fencing.** A driver that begins a lease term lists the segments once. It adopts (commits) those that workers
of its predecessor have published and that were not committed. Segments of earlier terms that appear later
never count.

**Damage.** A commit contains the digest of its content. If the newest commit is damaged, the one before it is
read; three commits are kept. Each term begins with two commits, so the commit before the newest has the same
term and excludes late segments of earlier terms as well. The next driver adopts the segments that only the
damaged commit named. If no commit can be read, every segment that exists and is intact counts.
"""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from workers.storage import object_names
from workers.storage.commits import Commit, decode, encode
from workers.storage.immutable_objects import Damage, ImmutableObjects
from workers.storage.object_names import parse_name
from workers.storage.objects import AlreadyExists, Fenced, NotFound, Objects, StoreUnreachable
from workers.tasks.results import Segment

KEPT_COMMITS = 3
"""Number of commits that are kept: the newest one, and two older ones to read if it is damaged."""

_ATTEMPTS = 10
"""Attempts to list and read the log: each fails if another process deletes the listed commits in between."""


class CommitLog:
    """The commit log of one run. Several threads of a driver may commit; a lock makes commits sequential."""

    def __init__(self, published: ImmutableObjects) -> None:
        self._published, self._objects = published, published.objects
        self._held: Commit | None = None
        self._read: Commit | None = None
        self._lock = threading.RLock()

    def latest(self) -> Commit:
        """The newest commit that can be read.

        After `take_over` this object is the only writer, and returns the commit from memory. Otherwise the
        log is listed, and a commit is read unless it was read before. In a store without a readable commit,
        all existing segments count.
        """
        with self._lock:
            return self._held or self._newest()[1]

    def commit(self, segments: Iterable[Segment], *, term: int) -> Commit:
        """Append published segments to those that count; nothing is written if all of them count already.

        Args:
            segments: that are published.
            term: of the lease that is held now.

        Returns:
            The newest commit.

        Raises:
            Fenced: a driver of a later term has written to the log.
            StoreUnreachable: other processes keep creating the next commit.
        """
        with self._lock:
            state = self.latest()
            new = {name: size for name, size in segments if name not in state.segments}
            if not new:
                return state
            return self._change(lambda state: state.with_segments(new), term)

    def replace(self, old: Sequence[str], new: Iterable[Segment], *, term: int) -> None:
        """Commit new segments in place of old ones, then delete the objects of the old ones.

        Args:
            old: names of segments.
            new: published segments that contain the records of the old ones.
            term: of the lease that is held now.

        Raises:
            Fenced: see `commit`.
        """
        gone, added = set(old), dict(new)

        def change(state: Commit) -> Commit:
            left = {name: size for name, size in state.segments.items() if name not in gone}
            removed = (*state.removed, *old)
            return replace(state, segments=left, removed=removed).with_segments(added)

        removed = self._change(change, term).removed
        deleted = self._delete(removed)
        with self._lock:
            # The next commit need not name deleted objects. The others are tried again by the next call.
            if self._held is not None:
                left = tuple(name for name in self._held.removed if name not in deleted)
                self._held = replace(self._held, removed=left)

    def take_over(self, term: int, failures: Callable[[Commit], str | None]) -> None:
        """Begin a lease term: commit all existing segments of the previous term, and exclude later ones.

        Args:
            term: of the lease that is held now.
            failures: publishes the failures that count in the previous commit, which is its argument, as one
                object; returns the name of the object, or None if there are no failures.

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
            oldest = self._held.number + 1 - KEPT_COMMITS
            left = [object_names.commit_name(n) for n in self._numbers() if n < oldest]
            self._published.delete([*damaged, *left])

    def adopt(self, workers: Collection[str] | None, *, term: int) -> list[str]:
        """Commit the segments that workers have published in this term but could not report to the driver.

        The folder of segments is listed once. Compaction keeps it small, so the cost does not depend on the
        size of the run.

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
            removed = set(known.removed)
            published = [
                Segment(name, size)
                for name, size in self._listed().items()
                if name not in known.segments and name not in removed
                if _term(name) == term
                if workers is None or object_names.segment_worker(name) in workers
            ]
            self.commit(published, term=term)
            return [segment.name for segment in published]

    def late(self) -> list[str]:
        """Names of the segments that can never count: of earlier terms, or copied into other segments."""
        state = self.latest()
        removed = set(state.removed)
        return [
            name
            for name in self._listed()
            if name not in state.segments
            if name in removed or _term(name) < state.term
        ]

    def damage(self) -> list[Damage]:
        """The commits that exist and cannot be read."""
        return [
            Damage(name, f"{name} is damaged: it is not the commit that was written")
            for name in map(object_names.commit_name, self._numbers())
            if isinstance(self._content(name), _Unreadable)
        ]

    def _delete(self, names: Iterable[str]) -> set[str]:
        """Delete objects; returns the names of those that the store has deleted before it stopped
        answering."""
        deleted: set[str] = set()

        def delete(name: str) -> None:
            self._published.delete([name])
            deleted.add(name)

        with contextlib.suppress(StoreUnreachable):
            self._published.each(delete, names)
        return deleted

    def _change(self, change: Callable[[Commit], Commit], term: int) -> Commit:
        """Create the next commit from the newest one; repeated if another process creates it first.

        Raises:
            Fenced: the newest commit has a later term.
            StoreUnreachable: all attempts failed.
        """
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
                    self._objects.create(object_names.commit_name(number + 1), encode(commit))
                except AlreadyExists:
                    if self._held is not None:
                        self._held = self._newest()[1]
                    continue
                if self._held is not None:
                    self._held = commit
                self._read = commit
                if number >= KEPT_COMMITS:
                    # The commit is written. If this fails, the next `take_over` deletes the old one.
                    with contextlib.suppress(StoreUnreachable):
                        self._objects.delete(object_names.commit_name(number + 1 - KEPT_COMMITS))
                return commit
            raise StoreUnreachable(
                f"Other processes keep writing to the log of {self._objects.url}."
            )

    def _newest(self) -> tuple[int, Commit]:
        """The highest number of an existing commit (0 if there is none), and the newest readable commit."""
        for _ in range(_ATTEMPTS):
            numbers = self._numbers()
            for number in reversed(numbers):
                if self._read is not None and self._read.number == number:
                    return numbers[-1], self._read
                content = self._content(object_names.commit_name(number))
                if content is None:  # the driver deleted it after newer commits: list again
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
        """The commit with a name; None if it does not exist, `_Unreadable` if it is damaged."""
        try:
            return decode(self._objects.get(name))
        except NotFound:
            return None
        except (ValueError, KeyError, TypeError):
            return _Unreadable()

    def _listed(self) -> dict[str, int]:
        """Size in bytes of each existing segment, by name, sorted by term within each collection."""
        parsed = (
            (parse_name(info.name), info.size) for info in self._objects.list(object_names.RECORDS)
        )
        return {
            str(name): size for name, size in parsed if name is not None and name.stem[:8].isdigit()
        }


class _Unreadable:
    """Stands for a damaged commit."""


def highest_term(objects: Objects) -> int:
    """The highest lease term in the names of a store's objects and in its log; 0 if there is none."""
    names = (parse_name(info.name) for info in objects.list(object_names.RUN))
    stems = (part for name in names if name is not None for part in name.stem.split("-"))
    in_names = max((int(part) for part in stems if part.isdigit()), default=0)
    return max(in_names, CommitLog(ImmutableObjects(objects)).latest().term)


def _term(name: str) -> int:
    parsed = parse_name(name)
    return 0 if parsed is None else parsed.number
