"""`minima.recipes`: minima of one loss, trained in several ways, in one run."""

import json

import pytest

from orchestrator.planning.plan import Identity, Plan
from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.reading import json_schema, parse
from tests.helpers.command import toscore

BASE = {"name": "r", "data": "digits", "network": {"name": "fc", "hidden": [6]}}
RECIPES = {
    "epochs": 7,
    "optimizer": {"name": "sgd", "lr": 0.1},
    "recipes": [{"count": 2}, {"count": 3, "epochs": 4, "batch_size": 64}],
}


def run_with(**minima):
    return parse({**BASE, "minima": minima})


def test_a_recipe_stands_for_its_own_keys_alone():
    """What a recipe does not say it has from `minima`; minima are numbered recipe after recipe."""
    trainings = run_with(**RECIPES).minima.trainings
    assert [t.epochs for t in trainings] == [7, 7, 4, 4, 4]
    assert [t.batch_size for t in trainings] == [256, 256, 64, 64, 64]
    assert {t.optimizer.name for t in trainings} == {"sgd"}


def test_a_minimum_is_the_one_of_a_run_without_recipes():
    """A recipe is a way of training and no part of a minimum's name, so other runs' minima are its own."""
    identity = Identity("data", "network")
    mixed = Plan(run_with(**RECIPES), identity)
    plain = Plan(run_with(epochs=7, optimizer={"name": "sgd", "lr": 0.1}, count=2), identity)
    assert mixed.minimum_keys[:2] == plain.minimum_keys
    assert len(set(mixed.minimum_keys)) == 5


def test_it_is_written_back_as_it_was_read():
    """The run that a store remembers is the run that was started."""
    run = run_with(**RECIPES)
    assert parse(run.model_dump(mode="json", by_alias=True)) == run


@pytest.mark.parametrize(
    ("minima", "names"),
    [
        ({"count": 3, "recipes": [{"count": 2}]}, "leave one of them out"),
        ({"recipes": [{"count": 0}, {"count": 2}]}, "minima.recipes.0.count is 0"),
        ({"recipes": [{"count": 2, "epoch": 1}]}, "did you mean minima.recipes.0.epochs"),
        ({"recipes": [{"epochs": 1}]}, "minima.recipes.0.count is missing"),
        ({"recipes": [{"count": 1}]}, "at least 2 minima"),
    ],
)
def test_impossible_recipes(minima, names):
    """One sentence with the recipe and the key."""
    with pytest.raises(BadRunFile) as refused:
        run_with(**minima)
    assert names in str(refused.value)


def test_the_schema_has_recipes():
    """An editor knows the keys of a recipe, and refuses others."""
    import jsonschema

    validator = jsonschema.Draft202012Validator(json_schema())
    assert validator.is_valid({**BASE, "minima": RECIPES})
    assert not validator.is_valid({**BASE, "minima": {"recipes": [{"count": 2, "epoch": 1}]}})


def test_a_run_of_two_recipes(tmp_path):
    """Minima of both recipes are trained and joined, and the cost counts both."""
    file = tmp_path / "r.yaml"
    recipes = [{"count": 1, "epochs": 2}, {"count": 2, "epochs": 3}]
    values = {**BASE, "store": str(tmp_path), "minima": {"recipes": recipes}}
    values["paths"] = {"epochs": 2, "points": 5}
    file.write_text(json.dumps(values))
    cost = json.loads(toscore("plan", file, "--json").out)
    assert (cost["minima"], cost["minimum_epochs"]) == (3, 8)
    assert toscore("run", file, "--in-process", "--quiet").code == 0
    result = json.loads(toscore("reduce", file, "--json").out)
    assert [m["epochs"] for m in result["minima"]] == [2, 3, 3]
    assert result["pairs"]["done"] == 3 and result["complete"]
