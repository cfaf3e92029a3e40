"""Which workers count as silent, hung or slow: scripted, with time as an argument."""

from orchestrator.scheduling.worker_health import Finding, Limits, WorkerHealth

LIMITS = Limits(silent=120.0, stalled=60.0, slow_factor=5.0, hung_factor=20.0)
PATHS = {"a": "path", "b": "path", "m": "minimum"}


def said(health, now):
    return [(v.worker, v.finding, v.key) for v in health.verdicts(now)]


def moving(kind_key, seconds, *, worker="old"):
    """A `WorkerHealth` that saw a task of this kind make progress once after so many seconds, and end."""
    health = WorkerHealth(LIMITS)
    health.answered(worker, {kind_key: 0.0}, PATHS, 0.0)
    health.answered(worker, {kind_key: 0.5}, PATHS, seconds)
    health.answered(worker, {}, PATHS, seconds + 1.0)
    return health


def test_a_worker_that_does_not_answer_is_silent():
    """Counted from the first question that is open, however often it is asked again."""
    health = WorkerHealth(LIMITS)
    for now in range(0, 120, 2):
        health.asked("w", float(now))
        assert said(health, float(now)) == []
    assert said(health, 121.0) == [("w", Finding.SILENT, "")]


def test_an_answer_ends_the_silence():
    """A worker that answers late is not silent any more."""
    health = WorkerHealth(LIMITS)
    health.asked("w", 0.0)
    health.answered("w", {}, PATHS, 110.0)
    health.asked("w", 112.0)
    assert said(health, 230.0) == []


def test_a_worker_that_answers_without_progress_is_hung():
    """After twenty times the longest pause of a task of its kind; that it is slow is reported once before."""
    health = moving("a", 30.0)
    found = []
    for now in range(100, 800, 10):
        health.answered("w", {"b": 0.25}, PATHS, float(now))
        found += [(now, *verdict[1:]) for verdict in said(health, float(now))]
    assert found[0] == (260, Finding.SLOW, "b")  # 5 x 30 s after 100
    assert found[1] == (710, Finding.HUNG, "b")  # 20 x 30 s after 100
    assert {finding for _, finding, _ in found[1:]} == {Finding.HUNG}


def test_quick_tasks_may_pause_too():
    """Twenty times a second is no reason: pauses below `Limits.stalled` are never reported."""
    health = moving("a", 1.0)
    health.answered("w", {"b": 0.0}, PATHS, 100.0)
    assert said(health, 159.0) == []
    assert said(health, 161.0) == [("w", Finding.HUNG, "b")]


def test_the_first_task_of_a_kind_is_never_taken_for_hung():
    """Minima with progress every second are no measure for a path; its pause is reported, once."""
    health = moving("m", 1.0)
    health.answered("w", {"a": 0.0}, PATHS, 10.0)
    assert said(health, 71.0) == [("w", Finding.SLOW, "a")]
    assert said(health, 36_000.0) == []


def test_a_task_with_progress_is_never_hung():
    """However slowly: progress ends a pause, and a longer pause raises the limit for later ones."""
    health, share = moving("a", 1.0), 0.0
    for now in range(100, 5000, 50):
        share += 1e-3
        health.answered("w", {"b": share}, PATHS, float(now))
        assert said(health, now + 49.0) == []


def test_what_a_lost_worker_ran_sets_no_measure():
    """A task that hung until its worker was killed does not excuse the next one."""
    health = moving("a", 1.0)
    health.answered("w", {"b": 0.0}, PATHS, 100.0)
    health.lost("w")
    assert said(health, 10_000.0) == []
    health.answered("v", {"b": 0.0}, PATHS, 10_000.0)
    assert said(health, 10_061.0) == [("v", Finding.HUNG, "b")]
