"""Objects in memory, for runs in simulated time."""

from itertools import count

from workers.storage.objects import AlreadyExists, Conflict, NotFound, ObjectInfo


class MemoryObjects:
    """The protocol `workers.storage.objects.Objects` on a dict; several threads may use it."""

    url = "memory"

    def __init__(self) -> None:
        self._content: dict[str, tuple[bytes, str]] = {}
        self._versions = count()

    def check_writable(self) -> None:
        """It can be written to."""

    def put(self, name: str, data: bytes) -> None:
        self._content[name] = data, str(next(self._versions))

    def get(self, name: str) -> bytes:
        return self.read_versioned(name)[0]

    def list(self, prefix: str = "") -> list[ObjectInfo]:
        under = f"{prefix}/" if prefix else ""
        names = sorted(name for name in list(self._content) if name.startswith(under))
        return [ObjectInfo(name, len(self._content[name][0])) for name in names]

    def delete(self, name: str) -> None:
        self._content.pop(name, None)

    def create(self, name: str, data: bytes) -> str:
        if name in self._content:
            raise AlreadyExists(name)
        self.put(name, data)
        return self._content[name][1]

    def swap(self, name: str, data: bytes, version: str) -> str:
        if name not in self._content or self._content[name][1] != version:
            raise Conflict(name)
        self.put(name, data)
        return self._content[name][1]

    def read_versioned(self, name: str) -> tuple[bytes, str]:
        if name not in self._content:
            raise NotFound(name)
        return self._content[name]

    def sweep(self) -> None:
        """Nobody leaves half an object here."""
