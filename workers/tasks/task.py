"""The base of all tasks: a frozen value with a key and the keys of the results that it reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from workers.tasks.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Task:
    """Base of all tasks.

    Attributes:
        objects: names in the store of the objects of `depends_on`, in that order. The driver fills them in
            when it hands the task out; they are no part of the key.
    """

    noun: ClassVar[str]
    """Name of the result in logs and metrics: minimum, path, simplex, ..."""

    objects: tuple[str, ...] = field(default=(), compare=False)

    if TYPE_CHECKING:  # at run time it would become the default of the field `problem` of a kind

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
        """The task with the names of the objects that it reads.

        Args:
            names: of objects, by the key of the task that made them. One that is missing stays empty, and
                reading it fails as a damaged object does.
        """
        return replace(self, objects=tuple(names.get(key, "") for key in self.depends_on))

    def object_of(self, key: str) -> str:
        """Name of the object of one of `depends_on`; empty if it is not known."""
        return dict(zip(self.depends_on, self.objects, strict=False)).get(key, "")
