"""A user's `module:callable`: the only code that a run file can name."""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any


class BadReference(ValueError):
    """One sentence that names the reference and what is wrong with it."""


def resolve(reference: str) -> Callable[..., Any]:
    """The callable that `module:callable` names.

    Raises:
        BadReference: no such module or callable.
    """
    module_name, _, attribute = reference.partition(":")
    if not module_name or not attribute:
        raise BadReference(f"{reference!r} is not module:callable, as in mynet:build")
    module = _module(reference, module_name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise BadReference(f"{reference!r}: the module {module_name} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        kind = type(found).__name__
        raise BadReference(f"{reference!r} is a {kind}; name a function or a class")
    return found  # type: ignore[no-any-return]


def source_fingerprint(reference: str) -> str:
    """SHA-256 of the source of the module: a changed module is another network."""
    module = _module(reference, reference.partition(":")[0])
    try:
        source = inspect.getsource(module)
    except (OSError, TypeError):
        source = f"{module.__name__} {getattr(module, '__version__', '')}"
    return hashlib.sha256(source.encode()).hexdigest()


def _module(reference: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name.partition(".")[0] or error.name == name:
            raise BadReference(
                f"{reference!r}: there is no module {name}; run from the folder that holds it, "
                "or install it"
            ) from None
        raise BadReference(f"{reference!r}: {name} needs {error.name}; install it") from None
    except Exception as error:
        raise BadReference(
            f"{reference!r}: importing {name} fails with {type(error).__name__}: {error}"
        ) from error
