"""YAML as people write it: what has one meaning is read, the rest is one sentence."""

import pytest

from orchestrator.run_file.errors import BadRunFile
from orchestrator.run_file.reading import parse, parse_override
from orchestrator.run_file.yaml_text import values_of

GOOD = "name: n\ndata: digits\nnetwork: fc\n"


def read(text):
    return parse(values_of(text, "run.yaml"))


def test_merge_keys():
    """`<<` takes over keys, and a key beside it counts more."""
    run = read(GOOD + "paths: &p {epochs: 3, points: 5}\nsimplices: {<<: {epochs: 2}, epochs: 7}\n")
    assert (run.paths.epochs, run.simplices.epochs) == (3, 7)


@pytest.mark.parametrize("name", ["2024", "1e3", "2024-02-03", "0x10", "yes"])
def test_names_that_yaml_reads_as_something_else(name):
    """`name: 2024` is the name 2024, in the file and after --set."""
    assert read(GOOD.replace("name: n", f"name: {name}")).name == name
    assert parse_override(f"name={name}") == ("name", name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "paths: {epochs: yes}",
            "paths.epochs is true (YAML reads yes so); it must be a whole",
        ),
        ("paths: {points: 3.5}", "paths.points is 3.5; it must be a whole number."),
        ("seed: yes", "seed is true"),
        ("minima: {epochs: true}", "minima.epochs is true"),
        ("minima: {recipes: [{count: 2, epochs: no}]}", "minima.recipes.0.epochs is false"),
        ("resources: {gpus_per_worker: yes}", "it must be 'auto' or a number."),
        ("pairs: {rungs: [1, true]}", "pairs.rungs.1 is true"),
        ("paths: {optimizer: {lr: yes}}", "paths.optimizer.lr is true"),
        (f"minima: {{count: {10**30}}}", "it must be a whole number of at most 2147483647."),
        (f"minima: {{count: {'9' * 5000}}}", "Exceeds the limit"),
        ("minima: {count: 2000000}", "it must be at most 100000."),
        ("pairs: {rule: list, pairs: 3}", "pairs.pairs is 3; it must be a list"),
        ("paths: [1]", "paths is [1]; it must be a group of keys, as in {key: value}."),
        ("reuse: [1]", "reuse.0 is 1; it must be text; quote it."),
        ("1: 2", "The key 1 is no text"),
        ("paths: !!set {a}", "paths is a set"),
        ("? [1]\n: 3", "unhashable key"),
        ("seed: 0\nseed: 1", "the key 'seed' appears twice"),
    ],
)
def test_values_of_the_wrong_kind(text, says):
    """A boolean is no number, a huge count is a mistake, and no word of a library reaches the user."""
    with pytest.raises(BadRunFile) as caught:
        read(f"{GOOD}{text}\n")
    said = str(caught.value)
    assert says in said and "\n" not in said
    assert not any(word in said for word in ("Input", "valid dict", "tuple", "pydantic"))


def test_bombs():
    """Deep nesting, aliases of aliases and circles are refused at once."""
    aliases = "a0: &a0 [1, 1]\n" + "".join(
        f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60)
    )
    for text in ("x: " + "[" * 5000 + "]" * 5000, aliases, "a: &a [*a]", "a: &a {b: *a}"):
        with pytest.raises(BadRunFile, match="not valid YAML"):
            read(f"{GOOD}{text}\n")


def test_off_is_a_word():
    """`off` and `on` are values of some keys, which plain YAML 1.1 reads as false and true."""
    values = values_of("saddles: {refine: off}\nminima: {polish: on, discover: yes}", "a.yaml")
    assert values == {"saddles": {"refine": "off"}, "minima": {"polish": "on", "discover": True}}
