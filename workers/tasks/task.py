"""The base class of all tasks: each has a key, and the keys of the results that it reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from workers.tasks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Task:
    """Base class of all tasks.

    Attributes:
        objects: names in the store of the objects of `depends_on`, in that order. The driver sets them when
            it assigns the task to a worker; they are not part of the key.
    """

    noun: ClassVar[str]
    """Name of the result in logs and metrics: minimum, path, simplex or saddle."""

    objects: tuple[str, ...] = field(default=(), compare=False)

    # At run time, a subclass would take this property as the default of its field `problem`.
    if TYPE_CHECKING:

        @property
        def problem(self) -> Problem:
            """The loss."""

    @property
    def key(self) -> str:
        """Hash of everything that decides the result."""
        raise NotImplementedError

    @property
    def title(self) -> str:
        """The name of the task in messages."""
        raise NotImplementedError

    @property
    def depends_on(self) -> tuple[str, ...]:
        """Keys of the tasks whose results this one reads."""
        return ()

    def with_objects(self, names: Mapping[str, str]) -> Self:
        """A copy of the task with the names of the objects that it reads.

        Args:
            names: of objects, by the key of the task that produced them. A missing name becomes the empty
                string; reading it raises `Damaged`.
        """
        return replace(self, objects=tuple(names.get(key, "") for key in self.depends_on))

    def object_of(self, key: str) -> str:
        """Name of the object of one of `depends_on`; empty if it is not known."""
        return dict(zip(self.depends_on, self.objects, strict=False)).get(key, "")
