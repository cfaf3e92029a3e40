"""A Ray that others have started, or named in the environment, is neither used by mistake nor shut down."""

import pytest
import ray

from orchestrator.cluster import connection


@pytest.fixture
def calls(monkeypatch):
    """What is asked of Ray, which is not started."""
    asked = []
    monkeypatch.setattr(ray, "init", lambda **options: asked.append(options))
    monkeypatch.setattr(ray, "shutdown", lambda: asked.append("shutdown"))
    return asked


def test_an_address_in_the_environment_is_not_ours(calls, monkeypatch):
    """Inside a Ray job or a KubeRay pod RAY_ADDRESS is set; without --address a cluster of our own starts."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "10.255.255.1:6379")
    connection.connect(connection.ClusterSettings())
    assert [options["address"] for options in calls] == ["local"]


def test_a_ray_of_the_caller_is_used_and_left_open(calls, monkeypatch):
    """A program that has called ray.init() before finds its Ray as it was."""

    class Context:
        namespace = "the caller's"

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_runtime_context", Context)
    connection.connect(connection.ClusterSettings())
    connection.disconnect()
    assert calls == []
