"""A study: one file that expands into several ordinary runs, to be run, resumed and compared as one.

A study names what its runs have in common (`run`), in what they differ (`matrix`), what is expected of
them (`claims`), and the scales at which it can be run. Every place of the matrix is a run file like any
other; its store is STORE/STUDY-SCALE and its name the labels of its place. Nothing else is written
down: what is done of a study is what its runs' stores hold.
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
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.models import (
    Model,
    RunFile,
    assign,
    checked,
    parse,
    parse_override,
    read_values,
    values_of,
    with_checkpoints_beside,
)

PREFIX = "study:"
"""Before the name of a study that is shipped."""

_LABEL = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]*$")


def _labelled(matrix: dict[str, Any]) -> dict[str, Any]:
    for name, axis in matrix.items():
        if not axis:
            raise ValueError(f"matrix.{name} is empty; give it at least one value")
        for label in axis if isinstance(axis, dict) else ():
            if not _LABEL.match(label):
                raise ValueError(
                    f"matrix.{name} has the label {label!r}; use letters, digits, '_' and '-'"
                )
    return matrix


Axis = dict[str, dict[str, Any]] | list[Any]
"""Labels with the keys that each sets; or, for an axis named as a key of a run file, its values."""

Matrix = Annotated[dict[str, Axis], AfterValidator(_labelled)]


class Claim(Model):
    """What the paper says of the runs: along an axis a measure falls or rises; or it is positive."""

    say: str
    measure: str
    expect: Literal["falls", "rises", "positive"]
    along: str | None = Field(None, description="An axis of the matrix, for falls and rises.")
    among: tuple[str, ...] = Field((), description="Labels on that axis, in order; all by default.")
    only: dict[str, list[str]] = Field(
        default_factory=dict, description="Labels of other axes to which the claim is confined."
    )

    @model_validator(mode="after")
    def _direction(self) -> "Claim":
        if (self.along is None) != (self.expect == "positive"):
            raise ValueError(
                f"expect is {self.expect!r}, which "
                + ("takes no 'along'" if self.along else "needs an axis: give 'along'")
            )
        return self


class Scale(Model):
    """How large: keys of the runs, and axes of the matrix, that are other than at full scale."""

    about: str = ""
    run: dict[str, Any] = Field(default_factory=dict)
    matrix: Matrix = Field(default_factory=dict)


class StudyFile(Model):
    """A study, as it is written down."""

    study: str = Field(pattern=_LABEL.pattern)
    about: str = ""
    scale: str = Field("full", description="The scale at which it runs if no other is asked for.")
    store: str = Field("runs", min_length=1)
    run: dict[str, Any]
    matrix: Matrix
    claims: tuple[Claim, ...] = ()
    scales: dict[str, Scale] = Field(default_factory=lambda: {"full": Scale()})

    @model_validator(mode="after")
    def _claims_name_axes(self) -> "StudyFile":
        for number, claim in enumerate(self.claims):
            for axis in filter(None, (claim.along, *claim.only)):
                if axis not in self.matrix:
                    raise ValueError(
                        f"claims.{number} names {axis!r}, which is no axis of the matrix; "
                        f"those are {', '.join(self.matrix)}"
                    )
        return self


@dataclass(frozen=True)
class Cell:
    """A place of the matrix.

    Attributes:
        labels: the axis and the label on it, in the order of the matrix.
        run: an ordinary run file.
    """

    labels: tuple[tuple[str, str], ...]
    run: RunFile

    def label(self, axis: str) -> str:
        return dict(self.labels)[axis]


@dataclass(frozen=True)
class Study:
    """A study at one scale, expanded.

    Attributes:
        axes: the labels of each axis of the matrix, in the stated order.
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
    """Whether `study:NAME` or a file with the key `study` is meant; what cannot be read is no study."""
    if str(reference).startswith(PREFIX):
        return True
    try:
        return "study" in read_values(Path(reference))
    except BadRunFile:
        return False


def load_study(reference: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study and expand it.

    Args:
        reference: `study:NAME` for one that is shipped, or a file.
        overrides: `scale=reduced`, `store=PLACE`, `matrix.AXIS=[…]`; any other key is set in every run.

    Raises:
        BadRunFile: one sentence; nothing has been written.
    """
    values, folder = _read(str(reference))
    return expand(values, [parse_override(text) for text in overrides], folder)


def shipped() -> Iterator[str]:
    """Names of the studies in this package."""
    for file in sorted(resources.files("orchestrator.studies").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".yaml"):
            yield file.name.removesuffix(".yaml")


def scales_of(reference: str) -> tuple[str, ...]:
    """The scales of a study, in the order of its file."""
    values, _ = _read(reference)
    return tuple(checked(StudyFile, values, StudyFile.model_json_schema, "a study").scales)


def expand(
    values: Mapping[str, Any],
    overrides: Sequence[tuple[str, Any]] = (),
    folder: Path = Path(),
) -> Study:
    """The runs of a study: pure.

    Keys are set in this order, later ones counting: `run`, the `run` of the scale, the labels of the
    place in the matrix, and the overrides.

    Args:
        values: of a study file.
        overrides: keys and values; see `load_study`.
        folder: of the study file, which checkpoints are relative to.

    Raises:
        BadRunFile: the study, or one of its runs, is not possible; the sentence says which.
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
            axis = _axis(key, file)
            matrix[axis] = _known_labels(key, value, matrix[axis])
    axes = {name: dict(_places(name, axis)) for name, axis in matrix.items()}
    cells = tuple(
        _cell(file, scale, dict(zip(axes, place, strict=True)), axes, others, folder)
        for place in product(*axes.values())
    )
    return Study(
        file.study,
        file.scale,
        " ".join(part.strip() for part in (file.about, scale.about) if part),
        {name: tuple(places) for name, places in axes.items()},
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


def _apart(
    overrides: Sequence[tuple[str, Any]],
) -> tuple[list[tuple[str, Any]], list[tuple[str, Any]]]:
    """Overrides of the study itself, and those of its runs."""
    own: list[tuple[str, Any]] = []
    others: list[tuple[str, Any]] = []
    for key, value in overrides:
        if key == "name":
            raise BadRunFile("--set name: the runs of a study are named by their places in it.")
        (own if key in _OWN or key.startswith("matrix.") else others).append((key, value))
    return own, others


def _axis(key: str, file: StudyFile) -> str:
    axis = key.removeprefix("matrix.")
    if axis not in file.matrix:
        raise BadRunFile(
            f"--set {key}: there is no axis {axis!r}; {file.study} has {', '.join(file.matrix)}."
        )
    return axis


def _known_labels(key: str, value: Any, axis: Axis) -> Axis:
    """A list of values; on an axis of labels, of some of its labels."""
    if not isinstance(value, list) or not value:
        raise BadRunFile(f"--set {key}: give a list, as in --set {key}=[…].")
    if isinstance(axis, list):
        return value
    unknown = [str(label) for label in value if str(label) not in axis]
    if unknown:
        raise BadRunFile(f"--set {key}: no label {unknown[0]!r}; there are {', '.join(axis)}.")
    return {str(label): axis[str(label)] for label in value}


def _places(name: str, axis: Axis) -> Iterator[tuple[str, dict[str, Any]]]:
    """Labels of an axis and the keys that each sets."""
    if isinstance(axis, dict):
        yield from axis.items()
        return
    for value in axis:
        text = re.sub(r"[^A-Za-z0-9]+", "-", str(value)).strip("-")
        yield f"{name.rpartition('.')[2]}{text}", {name: value}


def _cell(
    file: StudyFile,
    scale: Scale,
    place: Mapping[str, str],
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]],
    overrides: Sequence[tuple[str, Any]],
    folder: Path,
) -> Cell:
    values: dict[str, Any] = {}
    for keys in (file.run, scale.run, *(axes[axis][label] for axis, label in place.items())):
        _merge(values, keys)
    for key, value in overrides:
        assign(values, key, deepcopy(value))
    values["name"] = ".".join(place.values())
    values["store"] = f"{file.store.rstrip('/')}/{file.study}-{file.scale}"
    try:
        run = parse(with_checkpoints_beside(values, folder))
    except BadRunFile as error:
        raise BadRunFile(f"{file.study}, {values['name']}: {error}") from None
    return Cell(tuple(place.items()), run)


def _merge(values: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """Set keys, in place. Groups are merged, unless they name something: then they replace it."""
    for key, value in keys.items():
        present = values.get(key)
        if isinstance(present, str) and isinstance(value, Mapping):  # a bare name
            present = values[key] = {"name": present}
        if isinstance(value, Mapping) and "name" not in value and isinstance(present, dict):
            _merge(present, value)
        else:
            assign(values, key, deepcopy(value))
