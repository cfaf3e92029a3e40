"""The format of a study file, as pydantic models. Every validation error names the key."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from orchestrator.run_file.model import Model

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
"""Either a mapping of labels to the run-file keys that each sets; or, if the axis is named after a key of the
run file, a list of values of that key."""

Matrix = Annotated[dict[str, Axis], AfterValidator(_labelled)]


class Claim(Model):
    """A claim about the results: a measure falls or rises along an axis, or it is positive."""

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
    """The keys of the runs and the axes of the matrix that a scale replaces."""

    about: str = ""
    run: dict[str, Any] = Field(default_factory=dict)
    matrix: Matrix = Field(default_factory=dict)


class StudyFile(Model):
    """The content of a study file."""

    study: str = Field(pattern=_LABEL.pattern)
    about: str = ""
    scale: str = Field("full", description="The scale that is used by default.")
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
