"""The YAML of a run file: `1e-3` is a number, `off` is text, and there are no dates and no repeated keys.

The depth of nesting and the size after the expansion of aliases are limited.
"""

import re
from typing import Any

import yaml

from orchestrator.run_file.errors import BadRunFile

MAX_NODES = 100_000
"""Largest number of values in one file after aliases are expanded. The largest study has 300 values, while
nine lines of aliases to aliases can expand to a billion."""

MAX_DEPTH = 50
"""Largest depth of nested groups. A run file has 4 levels. PyYAML and the checks recurse at least once for
each level, and must not reach Python's limit of recursion."""

TEXT_KEYS = ("name", "store")
"""Top-level keys whose value is text even if YAML would read a number, as in `name: 2024`."""

_STRING = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_BOOLEAN = "tag:yaml.org,2002:bool"


class _Loader(yaml.SafeLoader):
    """A loader of safe YAML with the differences that the module docstring names."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.depth >= MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            problem = f"it is nested more than {MAX_DEPTH} levels deep"
            raise yaml.composer.ComposerError(None, None, problem, mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            written = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
            if written in seen and key.tag != _MERGE:
                problem = f"the key {key.value!r} appears twice"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            if written is not None:
                seen.add(written)
        return node


# PyYAML reads YAML 1.1, in which 1e-3 is text and `off`, a value of some keys, is false. Dates would become
# objects that no key allows.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_TIMESTAMP, _BOOLEAN)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    _BOOLEAN,
    re.compile("^(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE)$"),
    list("yYnNtTfF"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*)(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def values_of(text: str, name: str) -> dict[str, Any]:
    """The keys and values of the text of a run file.

    Args:
        text: of the file.
        name: of the file, for the message.

    Raises:
        BadRunFile: the text is not YAML, or holds no keys.
    """
    try:
        values = _load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadRunFile(f"The run file {name} is not valid YAML: {_fault(error)}.") from None
    if not isinstance(values, dict):
        held = "is empty" if values is None else f"holds a {type(values).__name__}"
        raise BadRunFile(
            f"The run file {name} {held} and should hold keys with values: start with `name:`, "
            "`data:` and `network:`."
        )
    return values


def value_of(text: str, key: str) -> Any:
    """The value of `--set KEY=TEXT`.

    Raises:
        BadRunFile: the text is not YAML.
    """
    if key in TEXT_KEYS:
        return text
    try:
        return _load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise BadRunFile(f"--set {key}: {text!r} is not a YAML value; quote it.") from None


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _count_nodes(root)
        _keep_text(root)
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _keep_text(root: yaml.Node) -> None:
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        plain = isinstance(value, yaml.ScalarNode) and value.value not in ("", "~", "null")
        if plain and key.value in TEXT_KEYS:
            value.tag = _STRING


def _count_nodes(root: yaml.Node) -> None:
    """Refuse a document whose aliases expand to more than `MAX_NODES` values or are circular.

    Raises:
        ComposerError: it is such a document.
    """
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Any) -> int:
        if isinstance(node, tuple):
            return size(node[0]) + size(node[1])
        if id(node) in open_nodes:
            raise _too_large(node, "an alias names the group that it is in")
        if id(node) not in sizes:
            open_nodes.add(id(node))
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            sizes[id(node)] = 1 + sum(map(size, inner))
            open_nodes.discard(id(node))
        if sizes[id(node)] > MAX_NODES:
            raise _too_large(node, f"it expands to more than {MAX_NODES:,} values")
        return sizes[id(node)]

    size(root)


def _too_large(node: yaml.Node, problem: str) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, problem, node.start_mark)


def _fault(error: Exception) -> str:
    """What is wrong with a text, with its line and column if they are known."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, RecursionError):
        return "its groups are nested too deeply"
    if mark is None:
        return " ".join(str(error).split()).rstrip(".")
    said = getattr(error, "problem", None) or "it cannot be read"
    return f"{said}, in line {mark.line + 1}, column {mark.column + 1}"
