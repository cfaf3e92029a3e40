"""Packages that not everybody needs: each belongs to an extra, and is missed when it is needed."""

EXTRAS = {"matplotlib": "plots", "mlxtend": "demo", "sklearn": "demo", "tensorboard": "tensorboard"}
"""Module → extra in pyproject.toml."""


def missing_extra(error: ModuleNotFoundError, what: str) -> str | None:
    """A sentence that says how to install the package that an import lacks; None if no extra has it.

    Args:
        error: of the import.
        what: needs the package, such as "toscore report".
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    return f"{what} needs {module}: pip install 'toscore[{EXTRAS[module]}]'."
