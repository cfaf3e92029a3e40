"""Import a user's `module:callable`, the only form in which a run file names code, and identify its
source."""

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


class BadReference(ValueError):
    """One sentence that names the reference and what is wrong with it."""


_FOLDERS: list[str] = []


def first_line(error: BaseException) -> str:
    """The first line of the message of an error, or its type if it has no message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def add_code_folder(folder: Path) -> None:
    """Search a folder for the user's modules, after everything that is installed.

    If the folder were at the front of the import path, a user's `yaml.py` would replace the library.
    """
    if str(folder) not in _FOLDERS:
        _FOLDERS.append(str(folder))


def code_folders() -> tuple[str, ...]:
    """The folders that this process searches for the user's modules, besides its installation of Python.

    A worker on another machine passes them to `add_code_folder`, so that it finds the same modules but uses
    its own installation of Python.
    """
    installed = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    own = [
        folder
        for folder in sys.path
        if folder
        and not {"site-packages", "dist-packages"} & set(Path(folder).parts)
        and not any(Path(folder).resolve().is_relative_to(path) for path in installed)
        and Path(folder).is_dir()
    ]
    return tuple(dict.fromkeys([*own, *_FOLDERS]))


GIVEN = "given"
"""Replaces the module in references to objects that a Python program has given: `given:HASH`."""

_OBJECTS: dict[str, Callable[..., Any]] = {}


def register_callable(function: Callable[..., Any], identity: str) -> str:
    """Make a function known to this process.

    Args:
        function: a callable, as a run file could name by `module:callable`.
        identity: text that changes with its code and with all that its results depend on.

    Returns:
        A reference to it, valid in this process alone.
    """
    reference = f"{GIVEN}:{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    _OBJECTS[reference] = function
    return reference


def resolve(reference: str) -> Callable[..., Any]:
    """The callable that `module:callable` names.

    Raises:
        BadReference: no such module or callable.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise BadReference(f"{reference!r} is not module:callable, as in mynet:build")
    if module_name == GIVEN:
        if reference not in _OBJECTS:
            raise BadReference(
                f"{reference!r} was given to toscore by a Python program: read the run from there, or "
                "name the object as module:callable in a run file"
            )
        return _OBJECTS[reference]
    module = _module(reference, module_name)
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise BadReference(
                f"{reference!r}: the module {module_name} has no {attribute}{_hidden(module)}"
            )
        value = getattr(value, part)
    if not callable(value):
        kind = type(value).__name__
        raise BadReference(f"{reference!r} is a {kind}; name a function or a class")
    return value  # type: ignore[no-any-return]


def source_fingerprint(reference: str) -> str:
    """SHA-256 of the source of the module and of the user's modules that it imports.

    Whatever is installed (the standard library, packages) is left out, and so is toscore itself.
    """
    if reference.startswith(f"{GIVEN}:"):
        return reference  # a hash of the code already
    module = _module(reference, reference.partition(":")[0])
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py"):
        named = f"{module.__name__} {getattr(module, '__version__', '')}"
        return hashlib.sha256(named.encode()).hexdigest()
    own = _Source(module.__name__, Path(file))
    others = _imported(own)
    if not others:
        return hashlib.sha256(own.text.encode()).hexdigest()
    parts = [own.text]
    for name in sorted(others):
        parts += [name, others[name].text]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True)
class _Source:
    """The file of a module, which need not be imported."""

    name: str
    file: Path

    @property
    def text(self) -> str:
        return self.file.read_text("utf-8", errors="replace")

    @property
    def package(self) -> str:
        is_package = self.file.name == "__init__.py"
        return self.name if is_package else self.name.rpartition(".")[0]

    def imports(self) -> set[str]:
        """Names of modules that import statements anywhere in the file may mean."""
        try:
            tree = ast.parse(self.text)
        except (SyntaxError, ValueError):
            return set()
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = self.package.split(".")
                    parents = parents[: len(parents) - node.level + 1]
                    base = ".".join([*parents, *([base] if base else [])])
                names.add(base)
                names.update(f"{base}.{alias.name}" for alias in node.names)
        # Importing a.b runs a as well.
        return {
            ".".join(name.split(".")[:parts])
            for name in names
            for parts in range(1, name.count(".") + 2)
        }


def _imported(module: _Source) -> dict[str, _Source]:
    """The user's own modules that a module imports, directly or through others, by name."""
    sources: dict[str, _Source] = {}
    waiting = [module]
    while waiting:
        for name in sorted(waiting.pop().imports()):
            file = _file_of(name, sources.get(name.rpartition(".")[0]))
            if file is None or name == module.name or name in sources or not _is_own_file(file):
                continue
            sources[name] = _Source(name, Path(file))
            waiting.append(sources[name])
    return sources


def _file_of(name: str, parent: _Source | None) -> str | None:
    """The file of a module, imported or not, in a package that may be known; None if there is none."""
    known = sys.modules.get(name)
    if known is not None:
        file = getattr(known, "__file__", None)
        return file if isinstance(file, str) else None
    if parent is not None:
        own = parent.file.parent / name.rpartition(".")[2]
        files = (own.with_suffix(".py"), own / "__init__.py")
        return next((str(file) for file in files if file.is_file()), None)
    if "." in name and not hasattr(sys.modules.get(name.rpartition(".")[0]), "__path__"):
        return None  # an attribute of a module
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    return spec.origin if spec is not None else None


def _is_own_file(file: str) -> bool:
    """Whether a file is no part of Python, of an installed package, or of toscore."""
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts) or path.suffix != ".py":
        return False
    own = Path(__file__).resolve().parents[2]
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib")]
    ours = [own / name for name in ("topo_core", "workers", "orchestrator")]
    return not any(path.is_relative_to(folder) for folder in (*installed, *ours))


def _hidden(module: ModuleType) -> str:
    """A hint, where an installed module hides a file of the user's with the same name."""
    for folder in _FOLDERS:
        own = Path(folder) / f"{module.__name__.replace('.', '/')}.py"
        if own.is_file() and own.resolve() != Path(module.__file__ or "").resolve():
            return f"; {own} has the name of an installed module: rename it"
    return ""


def _module(reference: str, name: str) -> ModuleType:
    sys.path.extend(folder for folder in _FOLDERS if folder not in sys.path)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.partition(".")[0] or error.name == name:
            own = name.removesuffix(".py").strip("./").replace("/", ".")
            hint = "run from the folder that holds it, or install it"
            if own != name:
                hint = f"write it as Python imports it, {own}:{reference.partition(':')[2]}"
            raise BadReference(f"{reference!r}: there is no module {name}; {hint}") from None
        raise BadReference(f"{reference!r}: {name} needs {error.name}; install it") from None
    except (Exception, SystemExit) as error:
        raise BadReference(
            f"{reference!r}: importing {name} fails with {type(error).__name__}: {error}"
        ) from error
