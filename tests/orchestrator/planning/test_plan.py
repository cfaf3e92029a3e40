"""Plans and pairs: pure, whole, and the same for the same run file."""

import io
import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from orchestrator.pair_rules.path_requests import PathRequest
from orchestrator.planning.cost import Cost, estimate
from orchestrator.planning.cost_view import estimate_view
from orchestrator.planning.plan import Identity, Plan
from orchestrator.planning.step_times import cached_step_times
from orchestrator.run_file.groups import Pairs
from orchestrator.run_file.reading import parse
from tests.helpers.command import toscore
from tests.helpers.process import ROOT, environment
from topo_core.paths.settings import PathSettings
from workers.problems.data_placement import placement_of

BASE = {"name": "x", "data": "digits", "network": {"name": "fc", "hidden": [16]}}


def plan(identity=("data", "network"), **changes):
    return Plan(parse({**BASE, **changes}), Identity(*identity))


def keys(p):
    return {task.key for task in p.tasks()}


def test_three_lines_are_a_run():
    """Everything but name, data and network has a default: ten minima and all their pairs."""
    p = plan()
    assert (len(p.minima), p.pair_count) == (10, 45)
    assert len(list(p.tasks())) == len(keys(p)) == 55


def test_tasks_come_after_what_they_depend_on():
    """In the request of the plan, with simplices after their faces."""
    seen = set()
    for task in plan(minima={"count": 5}, reduce={"max_index": 2}).tasks():
        assert set(task.depends_on) <= seen
        seen.add(task.key)
    assert len(seen) == sum(math.comb(5, k) for k in (1, 2, 3, 4))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"data": {"name": "digits", "subset": 100}},
        {"network": {"name": "fc", "hidden": [17]}},
        {"minima": {"epochs": 7}},
        {"minima": {"optimizer": {"name": "adam", "lr": 0.5}}},
        {"minima": {"l2": 0.1}},
        {"resources": {"precision": "tf32"}},
    ],
)
def test_what_a_minimum_depends_on_changes_all_keys(changes):
    """Seed, data, network, training and rounded gradients decide minima, and so everything."""
    base = plan()
    changed = plan(("other", "network") if "data" in changes else ("data", "network"), **changes)
    assert keys(base).isdisjoint(keys(changed))


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 7}, {"points": 11}, {"l2": 0.1}, {"force": "paper"}, {"batch_size": 3}],
)
def test_what_a_path_depends_on_leaves_minima_alone(changes):
    """Other paths between the same minima."""
    base, changed = plan(), plan(paths=changes)
    assert base.minimum_keys == changed.minimum_keys
    assert set(base.path_keys()).isdisjoint(changed.path_keys())


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "y"},
        {"store": "elsewhere"},
        {"resources": {"workers": 7, "checkpoint_seconds": 3}},
        {"keep_paths": "none"},
    ],
)
def test_what_decides_no_result_changes_no_key(changes):
    """Name, location, checkpoints and workers may change between two starts of a run."""
    assert keys(plan()) == keys(plan(**changes))


@given(st.integers(2, 30), st.integers(1, 5), st.integers(0, 5))
def test_random_pairs(n, per_minimum, seed):
    """Each minimum has as many partners as asked for, and raising n moves few pairs."""
    rule = Pairs(rule="random", per_minimum=per_minimum)
    pairs = list(rule.chosen.candidates(rule, n, seed))
    assert len(pairs) == len(set(pairs))
    assert all(0 <= i < j < n for i, j in pairs)
    for minimum in range(n):
        assert sum(minimum in pair for pair in pairs) >= min(per_minimum, n - 1)


@given(st.integers(2, 20), st.integers(1, 300))
def test_all_pairs_in_the_order_in_which_minima_appear(n, most):
    """So that paths between the first minima start while the others train; a budget cuts the end."""
    pairs = list(plan(minima={"count": n}, pairs={"max_pairs": most}).pairs())
    assert set(pairs) <= set(itertools.combinations(range(n), 2))
    assert len(pairs) == min(most, n * (n - 1) // 2)
    assert pairs == sorted(pairs, key=lambda pair: pair[::-1])


def test_the_cost_of_a_thousand_minima():
    """Counts are closed forms; nothing is run and nothing is written."""
    run = parse({**BASE, "minima": {"count": 1000, "epochs": 60}, "paths": {"epochs": 100}})
    cost = estimate(run, sample=False)
    assert isinstance(cost, Cost)
    assert (cost.minima, cost.paths) == (1000, 499_500)
    assert cost.parameters == 64 * 16 + 16 + 16 * 10 + 10
    assert cost.path_epochs == 49_950_000
    batches = math.ceil(1437 / 256)
    curve = PathSettings().resolve(batches).bezier_epochs
    assert cost.gradient_evaluations == 499_500 * batches * (100 * 17 + curve)


@pytest.mark.parametrize(
    ("free", "mapped", "says"),
    [
        (
            2 * 10**9,
            False,
            "stay on the host; 2 GB of the device are free: streamed in chunks of 1,000",
        ),
        (None, True, "stay in their memory-mapped file: streamed in chunks of 1,000 examples"),
        (80 * 10**9, False, ""),
    ],
)
def test_plan_says_where_large_data_lie(free, mapped, says):
    """12 GB of data beside the free memory of a device, on one line of the estimate."""
    cost = estimate(parse(BASE), sample=False)
    large = replace(cost, data=placement_of(12 * 10**9, free, mapped=mapped))
    console = Console(file=io.StringIO(), width=200)
    console.print(estimate_view(large))
    (line,) = [line for line in console.file.getvalue().splitlines() if line.startswith("data")]
    assert "12 GB" in line and says in line and ("streamed" in line) is bool(says)


def test_plan_names_the_work_that_it_cannot_bound():
    """A polish and a search for saddles end at stationary points: no number of "at most" includes them."""

    def printed(run):
        console = Console(file=io.StringIO(), width=200)
        console.print(estimate_view(estimate(parse(run), sample=False)))
        return console.file.getvalue()

    bounded = printed(BASE)
    assert "not counted" not in bounded and "gradients   at most" in bounded
    count = len(plan().minima)
    polished = printed({**BASE, "loss": {"name": "cross_entropy", "ridge": 1e-3}})
    assert "gradients    at most" not in polished and "not counted" in polished
    assert f"polish of {count} minima: 500 to 10,000 gradients" in polished
    assert f"saddles of up to {count - 1} paths: 2,500 to 80,000 gradients" in polished
    off = {**BASE, "loss": {"name": "cross_entropy", "ridge": 1e-3}, "saddles": {"refine": "off"}}
    assert "saddles" not in printed(off) and "polish of" in printed(off)


def test_plan_prints_and_writes_nothing(tmp_path, monkeypatch):
    """`toscore plan`, with its timed sample and as JSON."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "x.yaml"
    file.write_text(
        json.dumps({**BASE, "store": str(tmp_path / "runs"), "reduce": {"max_index": 1}})
    )
    said = toscore("plan", file, "--json")
    assert said.code == 0, said.err
    cost = json.loads(said.out)
    assert cost["simplices"] == math.comb(10, 3)
    assert cost["device_seconds"] > 0
    assert not (tmp_path / "runs").exists()
    assert "45" in toscore("plan", file, "--no-sample").out


def test_a_sample_is_timed_once(tmp_path, monkeypatch):
    """The second plan of a problem takes the first one's sample, whatever the number of minima."""
    monkeypatch.setenv("HOME", str(tmp_path))
    first, second = (
        estimate(parse({**BASE, "minima": {"count": count}, "seed": count})) for count in (3, 1000)
    )
    assert first.timed_at is not None
    assert second.seconds_per_path == first.seconds_per_path
    assert second.seconds_per_minimum == first.seconds_per_minimum
    other = parse({**BASE, "network": {"name": "fc", "hidden": [17]}})
    assert cached_step_times(other) is None
    assert cached_step_times(parse({**BASE, "network": {"name": "mine:build"}})) is None


def test_a_remembered_sample_needs_no_torch(tmp_path):
    """Importing torch takes longer than all else that a plan does, and a plan should answer at once."""
    file = tmp_path / "x.yaml"
    file.write_text(json.dumps(BASE))
    plans = (
        "import sys; from orchestrator.planning.cost import estimate; "
        "from orchestrator.run_file.reading import load; "
        f"estimate(load({str(file)!r})); sys.exit('torch' in sys.modules)"
    )
    command, home = [sys.executable, "-c", plans], environment(tmp_path)
    found = [subprocess.run(command, check=False, cwd=ROOT, env=home).returncode for _ in range(2)]
    assert found == [1, 0]


def test_keys_of_long_routes_are_computed_once(monkeypatch):
    """Each path starts as a route over the two before it: sixty keys are computed, not the 60th Fibonacci
    number of them."""
    p = plan(minima={"count": 60}, pairs={"rule": "lazy"}, paths={"start": "through"})
    requests = [PathRequest((0, 1), 0), PathRequest((0, 2), 0)]
    requests += [PathRequest((0, j), 0, (((0, j - 1), 0), ((0, j - 2), 0))) for j in range(3, 60)]
    rounds = SimpleNamespace(issued={(o.pair, o.rung): o for o in requests}, keys={})
    made = []
    path = Plan.path
    monkeypatch.setattr(Plan, "path", lambda *args: made.append(args) or path(*args))
    assert len({p.request_key(request, rounds) for request in reversed(requests)}) == 59
    assert len(made) <= 60
