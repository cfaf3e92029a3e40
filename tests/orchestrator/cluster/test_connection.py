"""Connecting to Ray: which cluster, with which versions, and whose connection is closed."""

from types import SimpleNamespace

import pytest

from orchestrator.cluster import connection
from orchestrator.cluster.connection import ClusterSettings, connect, disconnect
from orchestrator.scheduling.executor import WorkersUnavailable


@pytest.fixture
def ray(monkeypatch):
    """A Ray that notes how it is started and stopped."""
    state = SimpleNamespace(started=[], stopped=0, namespace="", error=None)

    def init(**options):
        if state.error:
            raise state.error
        state.started.append(options)
        state.namespace = options["namespace"]

    def shutdown():
        state.stopped += 1
        state.namespace = ""

    fake = SimpleNamespace(
        init=init,
        shutdown=shutdown,
        is_initialized=lambda: bool(state.namespace),
        get_runtime_context=lambda: SimpleNamespace(namespace=state.namespace),
    )
    monkeypatch.setattr(connection, "ray", fake)
    connection._OURS.clear()
    return state


def test_an_own_cluster_ignores_the_address_of_another(ray, monkeypatch):
    """RAY_ADDRESS in the environment names a cluster for others: without --address it is not used."""
    monkeypatch.setenv("RAY_ADDRESS", "cluster.example:6379")
    connect(ClusterSettings())
    assert [options["address"] for options in ray.started] == ["local"]


def test_a_connection_of_the_caller_stays_open(ray):
    """A Ray connection of the calling program stays open; one that `connect` opened is closed."""
    ray.namespace = "of-the-caller"
    connect(ClusterSettings())
    disconnect()
    assert not ray.started and not ray.stopped
    ray.namespace = ""
    connect(ClusterSettings())
    connect(ClusterSettings())
    disconnect()
    disconnect()
    assert len(ray.started) == ray.stopped == 1


def test_other_versions_on_the_cluster_are_one_sentence(ray):
    """A patch version of Python that differs is refused by Ray; the sentence holds both versions."""
    ray.error = RuntimeError(
        "Version mismatch: The cluster was started with:\n"
        "    Ray: 2.60.0\n    Python: 3.12.3\n"
        "This process on Ray Client was started with:\n"
        "    Ray: 2.60.0\n    Python: 3.12.4\n"
    )
    with pytest.raises(WorkersUnavailable) as refused:
        connect(ClusterSettings("auto"))
    assert "Python 3.12.3" in str(refused.value) and "Python 3.12.4" in str(refused.value)
    assert "\n" not in str(refused.value)
