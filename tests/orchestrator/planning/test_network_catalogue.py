"""`toscore networks`: every name with its parameter count."""

import json

from tests.helpers.command import toscore
from workers.tasks.specs import NetworkSpec


def test_every_network_is_listed():
    """Each name that a run file may use is listed with its count, the paper's 195,210 among them."""
    said = toscore("networks", "--json")
    listed = {n["name"]: n for n in json.loads(said.out)["networks"]}
    assert said.code == 0 and set(listed) == set(NetworkSpec.known())
    assert listed["resnet"]["parameters"] == 195_210
    assert listed["resnet_e7"]["parameters"] == 234_058
    assert listed["cnn3"]["parameters"] == 58_826
    assert listed["fc"]["parameters"] == 784 * 32 + 32 + 32 * 32 + 32 + 32 * 10 + 10
    assert listed["fc"]["input_shape"] == [1, 28, 28]


def test_torchvisions_are_listed_when_asked_for():
    """With --torchvision its classifiers come too, as torchvision counts them."""
    listed = {
        n["name"]: n["parameters"]
        for n in json.loads(toscore("networks", "--torchvision", "--json").out)["networks"]
    }
    assert listed["torchvision:resnet18"] == 11_689_512


def test_the_table():
    """On a terminal the same is a table."""
    out = toscore("networks").out
    assert "195,210" in out and "torchvision:NAME" in out
