"""A study file expands into ordinary run files, and what cannot be is refused before anything runs."""

import pytest
import yaml

from orchestrator.run_file.errors import BadRunFile
from orchestrator.studies.study import expand, is_study, load_study
from tests.helpers.command import toscore

STUDY = {
    "study": "s",
    "store": "place",
    "run": {
        "data": "digits",
        "network": "fc",
        "minima": {"count": 2, "epochs": 9, "schedule": {"name": "anneal", "start": 0.2}},
        "paths": {"insertion": {"every": 25, "threshold": 1.5}},
    },
    "matrix": {
        "depth": {"one": {"network.hidden": [4]}, "two": {"network": {"hidden": [4, 4]}}},
        "seed": [0, 3],
    },
    "claims": [{"say": "lower", "measure": "height", "along": "depth", "expect": "falls"}],
    "scales": {
        "full": {},
        "reduced": {
            "run": {"minima": {"epochs": 2, "schedule": {"name": "constant"}}},
            "matrix": {"seed": [5]},
        },
    },
}


def test_every_place_of_the_matrix_is_a_run():
    """The runs are the product of the axes, in their order, named by their labels."""
    study = expand(STUDY)
    assert [cell.run.name for cell in study.cells] == [
        "one.seed0",
        "one.seed3",
        "two.seed0",
        "two.seed3",
    ]
    assert {cell.run.store for cell in study.cells} == {"place/s-full"}
    assert study.cells[3].labels == (("depth", "two"), ("seed", "seed3"))
    assert study.cells[3].run.seed == 3
    assert study.cells[3].run.network.canonical() == {"name": "fc", "hidden": [4, 4]}


def test_a_scale_replaces_keys_and_axes():
    """Groups are merged key by key; what has a name of its own is replaced as a whole."""
    (one, two) = expand(STUDY, [("scale", "reduced")]).cells
    assert (one.run.name, two.run.name) == ("one.seed5", "two.seed5")
    assert one.run.store == "place/s-reduced"
    training = one.run.minima.training
    assert (training.epochs, training.schedule.name, training.schedule.start) == (
        2,
        "constant",
        None,
    )
    assert one.run.minima.count == 2


def test_overrides():
    """--set reaches the study's own keys, its axes, and any key of all its runs."""
    study = expand(
        STUDY,
        [
            ("store", "s3://bucket/x/"),
            ("matrix.depth", ["two"]),
            ("matrix.seed", [7, 8]),
            ("minima.epochs", 4),
            ("paths.insertion.every", 3),
        ],
    )
    assert [cell.run.name for cell in study.cells] == ["two.seed7", "two.seed8"]
    run = study.cells[0].run
    assert run.location == "s3://bucket/x/s-full/two.seed7"
    assert run.minima.training.epochs == 4
    assert (run.paths.insertion.every, run.paths.insertion.threshold) == (3, 1.5)


def test_expanding_leaves_the_file_as_it_was():
    """The same values expand to the same runs again."""
    first = expand(STUDY, [("minima.epochs", 4)])
    assert expand(STUDY) != first
    assert expand(STUDY, [("minima.epochs", 4)]) == first


def changed(**keys):
    return {**STUDY, **keys}


@pytest.mark.parametrize(
    ("values", "overrides", "names"),
    [
        (changed(matrx={}), [], "matrx is not a key of a study; did you mean matrix?"),
        ({"study": "s", "matrix": {"seed": [1]}}, [], "run is missing; a study needs"),
        (changed(matrix={"seed": []}), [], "matrix.seed is empty"),
        (changed(matrix={"depth": {"a b": {}}}), [], "the label 'a b'; use letters"),
        (STUDY, [("scale", "tiny")], "scale is 'tiny'; s has the scales full, reduced."),
        (STUDY, [("name", "x")], "toscore names the runs of a study by their labels"),
        (STUDY, [("matrix.width", [1])], "there is no axis 'width'; s has depth, seed."),
        (STUDY, [("matrix.depth", ["three"])], "no label 'three'; there are one, two."),
        (STUDY, [("matrix.seed", 3)], "--set matrix.seed: give a list"),
        (STUDY, [("minima.epoch", 3)], "s, one.seed0: minima.epoch is not a key of a run file"),
        (STUDY, [("minima.count", 1)], "s, one.seed0: minima: a barcode needs at least 2 minima"),
    ],
)
def test_impossible_studies(values, overrides, names):
    """One sentence names the study, the run and the key."""
    with pytest.raises(BadRunFile) as refused:
        expand(values, overrides)
    assert names in str(refused.value)


@pytest.mark.parametrize(
    ("claim", "names"),
    [
        ({"along": "width", "expect": "falls"}, "names 'width', which is no axis of the matrix"),
        ({"expect": "falls"}, "needs an axis: give 'along'"),
        ({"along": "depth", "expect": "positive"}, "takes no 'along'"),
        ({"along": "depth", "expect": "shrinks"}, "expect is 'shrinks'"),
    ],
)
def test_impossible_claims(claim, names):
    """A claim without a direction, or along nothing, is refused."""
    with pytest.raises(BadRunFile) as refused:
        expand(changed(claims=[{"say": "x", "measure": "height", **claim}]))
    assert names in str(refused.value)


def test_files(tmp_path):
    """A file is a study if it says so; checkpoints are relative to it."""
    study, run = tmp_path / "study.yaml", tmp_path / "run.yaml"
    study.write_text(
        yaml.safe_dump(changed(run={**STUDY["run"], "minima": {"from": ["a.pt", "b.pt"]}}))
    )
    run.write_text(yaml.safe_dump({**STUDY["run"], "name": "r"}))
    assert is_study(study) and not is_study(run) and not is_study(tmp_path / "none.yaml")
    assert is_study("study:anything")
    cell = load_study(study).cells[0]
    assert cell.run.minima.from_ == (str(tmp_path / "a.pt"), str(tmp_path / "b.pt"))


def test_a_study_that_is_not_shipped():
    """The sentence names the one that was meant, or lists those that are; exit code 2."""
    said = toscore("run", "study:fig2-mnits")
    assert said.code == 2 and "no study 'fig2-mnits'" in said.err
    assert "did you mean study:fig2-mnist?" in said.err
    said = toscore("run", "study:something-else")
    assert said.code == 2 and "fig2-mnist" in said.err and "generalisation" in said.err
