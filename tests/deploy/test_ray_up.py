"""The files of Ray's cluster launcher, checked by Ray's own code, and for what Ray does not ask."""

import copy
import re
import subprocess

import jsonschema
import pytest
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deploy.files import DEPLOY, documents

FILES = sorted((DEPLOY / "ray-up").glob("*.yaml"))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def config(request):
    (found,) = documents(request.param)
    return found


def test_there_are_two():
    """One for AWS and one for machines of one's own."""
    assert [file.stem for file in FILES] == ["aws", "onprem"]


def test_ray_takes_it(config):
    """Ray's own preparation and validation pass."""
    validate_config(prepare_config(copy.deepcopy(config)))


def test_ray_refuses_a_broken_copy(config):
    """The validation is not empty: a misspelt key is refused."""
    prepared = prepare_config(copy.deepcopy(config))
    prepared["max_wokers"] = prepared.pop("max_workers")
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepared)


def commands(config):
    return [
        command
        for key in ("setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
        for command in config[key]
    ]


def test_the_token_is_on(config):
    """Every `ray start` is given the mode and the token's file, which is copied and closed to others."""
    starts = [command for command in commands(config) if "ray start" in command]
    assert len(starts) == 2
    (target,) = [path for path in config["file_mounts"] if path.endswith("auth_token")]
    for command in starts:
        before = command.partition("ray start")[0]
        assert "RAY_AUTH_MODE=token" in before
        assert f"RAY_AUTH_TOKEN_PATH={target}" in before
    assert f"chmod 600 {target}" in config["setup_commands"]


def test_listening(config):
    """The dashboard listens on the head's loopback alone."""
    (head,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in head


def test_lost_nodes_are_noticed(config):
    """The head's health checks are set to find a lost node in seconds."""
    (head,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    settings = dict(re.findall(r"RAY_health_check_(\w+)=(\d+)", head))
    assert settings == {
        "initial_delay_ms": "1000",
        "period_ms": "1000",
        "timeout_ms": "2000",
        "failure_threshold": "3",
    }


def test_commands_are_shell(config):
    """Each command is one that bash can parse."""
    for command in commands(config):
        subprocess.run(["bash", "-n", "-c", command], check=True)


def test_spot_workers_on_aws():
    """GPU workers are spot instances that come with the work; the head does none."""
    (config,) = documents(DEPLOY / "ray-up" / "aws.yaml")
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"]["CPU"] == 0
    assert types
    for worker in types.values():
        assert worker["min_workers"] == 0 and worker["resources"]["GPU"] >= 1
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
