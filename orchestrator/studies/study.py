"""A study: one file that expands into several ordinary runs, which are run, resumed and compared together.

A study file has the keys that its runs share (`run`), the axes along which they differ (`matrix`), claims
about their results (`claims`), and the scales at which the study can be run (`scales`). A cell of the matrix
has one label on each axis and is an ordinary run: its store is STORE/STUDY-SCALE, and its name consists of
its labels. The progress of a study is not stored, because it follows from the stores of its runs.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Any

from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.locations import resolved
from orchestrator.run_file.models import RunFile
from orchestrator.run_file.reading import assign, checked, parse, parse_override, read_values
from orchestrator.run_file.yaml_text import values_of
from orchestrator.studies.study_file import Axis, Claim, Scale, StudyFile

PREFIX = "study:"
"""Prefix that marks the name of a shipped study, as opposed to a file."""


@dataclass(frozen=True)
class Cell:
    """A cell of the matrix.

    Attributes:
        labels: pairs (axis, label), in the order of the axes in the matrix.
        run: the run file of the cell.
    """

    labels: tuple[tuple[str, str], ...]
    run: RunFile

    def label(self, axis: str) -> str:
        """The label of this cell on an axis.

        Raises:
            KeyError: the matrix has no such axis.
        """
        return dict(self.labels)[axis]


@dataclass(frozen=True)
class Study:
    """A study at one scale, expanded into its runs.

    Attributes:
        name: name of the study.
        scale: name of the scale.
        about: description of the study and of the scale.
        axes: the labels of each axis of the matrix, in the order of the file.
        cells: the runs, the last axis varying fastest.
        claims: the claims of the study.
    """

    name: str
    scale: str
    about: str
    axes: Mapping[str, tuple[str, ...]]
    cells: tuple[Cell, ...]
    claims: tuple[Claim, ...]

    @cached_property
    def title(self) -> str:
        return f"{self.name} ({self.scale} scale)"


def is_study(reference: str | Path) -> bool:
    """Whether a reference is `study:NAME`, or a readable YAML file with the key `study`."""
    if str(reference).startswith(PREFIX):
        return True
    try:
        return "study" in read_values(Path(reference))
    except BadRunFile:
        return False


def load_study(reference: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study and expand it.

    Args:
        reference: `study:NAME` for a shipped study, or the path of a study file.
        overrides: `scale=reduced`, `store=URL`, `matrix.AXIS=[…]`; any other key is set in every run.

    Raises:
        BadRunFile: the study, one of its runs or an override is invalid. Nothing has been written.
    """
    values, folder = _read(str(reference))
    return expand(values, [parse_override(text) for text in overrides], folder)


def shipped() -> Iterator[str]:
    """Names of the studies in this package, sorted."""
    for file in sorted(resources.files("orchestrator.studies").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            yield file.name.removesuffix(".yaml")


def scales_of(reference: str) -> tuple[str, ...]:
    """Names of the scales of a study, in the order of its file.

    Raises:
        BadRunFile: there is no such study, or its file is invalid.
    """
    values, _ = _read(reference)
    return tuple(checked(StudyFile, values, StudyFile.model_json_schema, "a study").scales)


def expand(
    values: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]] = (),
    folder: Path = Path(),
) -> Study:
    """Expand the content of a study file into runs. Pure.

    The keys of a run come from `run`, the `run` of the scale, the labels of the cell, and the overrides, in
    this order; later values replace earlier ones.

    Args:
        values: the content of a study file.
        overrides: pairs (key, value); see `load_study`.
        folder: folder of the study file; paths of checkpoints are relative to it.

    Raises:
        BadRunFile: the study or one of its runs is invalid; the message says which.
    """
    own, others = _apart(overrides)
    written = deepcopy(dict(values))
    for key, value in own:
        if not key.startswith("matrix."):
            assign(written, key, value)
    file = checked(StudyFile, written, StudyFile.model_json_schema, "a study")
    if file.scale not in file.scales:
        raise BadRunFile(
            f"scale is {file.scale!r}; {file.study} has the scales {', '.join(file.scales)}."
        )
    scale = file.scales[file.scale]
    matrix = {**file.matrix, **scale.matrix}
    for key, value in own:
        if key.startswith("matrix."):
            axis = _axis_of(key, file)
            matrix[axis] = _known_labels(key, value, matrix[axis])
    axes = {name: dict(_labels_of(name, axis)) for name, axis in matrix.items()}
    cells = tuple(
        _cell(file, scale, dict(zip(axes, labels, strict=True)), axes, others, folder)
        for labels in product(*axes.values())
    )
    return Study(
        file.study,
        file.scale,
        " ".join(part.strip() for part in (file.about, scale.about) if part),
        {name: tuple(labels) for name, labels in axes.items()},
        cells,
        file.claims,
    )


def _read(reference: str) -> tuple[dict[str, Any], Path]:
    if not reference.startswith(PREFIX):
        file = Path(reference)
        return read_values(file), file.parent
    name = reference.removeprefix(PREFIX)
    known = tuple(shipped())
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {PREFIX}{close[0]}?" if close else f"it has {', '.join(known)}."
        raise BadRunFile(f"There is no study {name!r} in this package; {hint}")
    text = resources.files("orchestrator.studies").joinpath(f"{name}.yaml").read_text("utf-8")
    return values_of(text, f"{name}.yaml"), Path()


_OWN = ("scale", "store")
"""Keys of overrides that, besides `matrix.AXIS`, belong to the study file and not to its runs."""


def _apart(
    overrides: Sequence[tuple[str, Any]],
) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Split overrides into those of the study file and those of its runs."""
    own: list[tuple[str, Any]] = []
    others: list[tuple[str, Any]] = []
    for key, value in overrides:
        if key == "name":
            raise BadRunFile("--set name: toscore names the runs of a study by their labels.")
        (own if key in _OWN or key.startswith("matrix.") else others).append((key, value))
    return own, others


def _axis_of(key: str, file: StudyFile) -> str:
    axis = key.removeprefix("matrix.")
    if axis not in file.matrix:
        raise BadRunFile(
            f"--set {key}: there is no axis {axis!r}; {file.study} has {', '.join(file.matrix)}."
        )
    return axis


def _known_labels(key: str, value: Any, axis: Axis) -> Axis:
    """An axis after the override `matrix.AXIS=[…]`.

    On an axis with labels the list selects labels; on an axis of plain values it replaces the values.
    """
    if not isinstance(value, list) or not value:
        raise BadRunFile(f"--set {key}: give a list, as in --set {key}=[…].")
    if isinstance(axis, list):
        return value
    unknown = [str(label) for label in value if str(label) not in axis]
    if unknown:
        raise BadRunFile(f"--set {key}: no label {unknown[0]!r}; there are {', '.join(axis)}.")
    return {str(label): axis[str(label)] for label in value}


def _labels_of(name: str, axis: Axis) -> Iterator[tuple[str, dict[str, Any]]]:
    """Pairs of a label of an axis and the keys that the label sets."""
    if isinstance(axis, dict):
        yield from axis.items()
        return
    for value in axis:
        text = re.sub(r"[^A-Za-z0-9]+", "-", str(value)).strip("-")
        yield f"{name.rpartition('.')[2]}{text}", {name: value}


def _cell(
    file: StudyFile,
    scale: Scale,
    labels: Mapping[str, str],
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]],
    overrides: Sequence[tuple[str, Any]],
    folder: Path,
) -> Cell:
    values: dict[str, Any] = {}
    for keys in (file.run, scale.run, *(axes[axis][label] for axis, label in labels.items())):
        _merge(values, keys)
    for key, value in overrides:
        assign(values, key, deepcopy(value))
    values["name"] = ".".join(labels.values())
    values["store"] = f"{file.store.rstrip('/')}/{file.study}-{file.scale}"
    try:
        run = parse(resolved(values, folder))
    except BadRunFile as error:
        raise BadRunFile(f"{file.study}, {values['name']}: {error}") from None
    return Cell(tuple(labels.items()), run)


def _merge(values: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """Set keys of ``values`` in place. Groups are merged; a group with a `name` replaces the previous one."""
    for key, value in keys.items():
        present = values.get(key)
        if isinstance(present, str) and isinstance(value, Mapping):  # a bare name
            present = values[key] = {"name": present}
        if isinstance(value, Mapping) and "name" not in value and isinstance(present, dict):
            _merge(present, value)
        else:
            assign(values, key, deepcopy(value))
