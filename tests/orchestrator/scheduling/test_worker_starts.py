"""When failed starts of workers end a run, and when a worker is not started again."""

from orchestrator.scheduling.worker_starts import StartPolicy, WorkerStarts

POLICY = StartPolicy(attempts=3, in_all=5)


def test_a_worker_is_not_started_again_after_some_failed_starts():
    """A joined worker has started: its earlier failures count no more."""
    starts = WorkerStarts(POLICY)
    starts.failed("w", "n", "killed", raised=False, times=2)
    assert starts.may_try("w")
    starts.joined("w", "n")
    starts.failed("w", "n", "killed", raised=False, times=2)
    assert starts.may_try("w")
    text = starts.failed("w", "n", "killed", raised=False)
    assert not starts.may_try("w")
    assert text == (
        "it could not start (3 times): killed; node n: 5 failed starts, 1 workers joined; "
        "it is not started again"
    )


def test_a_run_goes_on_while_a_worker_works_or_one_may_still_start():
    """One working worker is enough, and a single accident at a start is no reason to give up."""
    starts = WorkerStarts(POLICY)
    starts.failed("w", "", "killed", raised=False)
    assert not starts.is_hopeless([], ["w"])
    starts.failed("w", "", "killed", raised=False, times=2)
    assert starts.is_hopeless([], ["w"])
    assert not starts.is_hopeless(["other"], ["w"])
    assert not starts.is_hopeless([], ["w", "pending"])


def test_an_error_that_every_worker_raises_ends_the_run_at_once():
    """A missing file is missing at the next try as well."""
    starts = WorkerStarts(POLICY)
    starts.failed("a", "", "FileNotFoundError", raised=True)
    assert not starts.is_hopeless([], ["a", "b"])
    starts.failed("b", "", "FileNotFoundError", raised=True)
    assert starts.is_hopeless([], ["a", "b"])


def test_many_failed_starts_end_a_run_in_which_no_worker_has_ever_joined():
    """On a cluster that may still add nodes some worker is always pending."""
    starts = WorkerStarts(POLICY)
    starts.failed("a", "", "killed", raised=False, times=3)
    starts.failed("b", "", "killed", raised=False, times=2)
    assert starts.is_hopeless([], ["a", "b", "pending"])
    starts.joined("c")
    assert not starts.is_hopeless([], ["a", "b", "pending"])
