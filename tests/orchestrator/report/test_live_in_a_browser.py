"""The live page in Chromium, and during a run whose workers are killed."""

import json
import threading
import urllib.request

import pytest

from tests.helpers import results
from tests.helpers.browser import DESK, PHONE, opened
from tests.helpers.made_run import HEIGHTS, LOSSES, made_run
from tests.helpers.process import started, wait_until, workers_of
from tests.orchestrator.dashboard.test_live import serving
from tests.orchestrator.runs.test_main_job import MINIMA, PAIRS, write

pytestmark = pytest.mark.slow


@pytest.fixture
def unfinished(tmp_path):
    """A run with all minima, some paths, a failure and a checkpoint."""
    made = made_run(tmp_path, 4)
    made.minima(dict(enumerate(LOSSES)))
    made.paths({pair: HEIGHTS[pair] for pair in ((0, 1), (0, 2), (1, 3))}, LOSSES)
    made.fails((0, 3), "a point became infinite in epoch 3; lower the learning rate")
    made.store.publish_checkpoint(made.plan.pair_key((1, 2)), 40, {}, {})
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_live_page_is_sound_in_a_browser(unfinished, size, scheme):
    """No error, no overflow, the barcode seen, no serious fault by axe."""
    with serving(unfinished.folder) as url, opened(url, size=size, scheme=scheme) as seen:
        assert seen.overflow() <= 0
        assert seen.page.locator("#barcode-so-far svg:visible").count() == 1
        assert seen.faults() == []
        assert seen.errors == []
        assert all(request.startswith((url, "data:")) for request in seen.requests)


def test_it_follows_the_run_and_keeps_what_is_open(unfinished):
    """A new path shows by itself; details that were opened by click stay open; a lost server is said."""
    with opened("about:blank") as seen:
        page = seen.page
        with serving(unfinished.folder) as url:
            page.goto(url)
            assert page.locator("[data-kind=paths]").inner_text() == "3 of 6"
            page.get_by_text("Tasks with a checkpoint").click()
            assert page.get_by_role("cell", name="path 1–2").is_visible()
            page.get_by_text("Data of “The barcode so far”").click()
            unfinished.paths({(2, 3): HEIGHTS[2, 3]}, LOSSES)
            page.get_by_text("4 of 6", exact=True).wait_for()
            assert page.get_by_role("cell", name="path 1–2").is_visible()
            assert page.locator("#barcode-so-far table").is_visible()
            assert page.locator("#stale").is_hidden()
        page.wait_for_selector("#stale:visible")
        assert "does not answer" in page.locator("#stale").inner_text()


def test_it_never_lies_while_workers_are_killed(tmp_path):
    """What it calls done was in the store when it was asked, and nothing done before is missing."""
    file, run = write(tmp_path, "w"), tmp_path / "runs" / "w"
    answers, done = [], threading.Event()

    def keys():
        return [
            len({row["key"] for row in results.raw_records(run, c)}) for c in ("minima", "pairs")
        ]

    def ask(url):
        while not done.is_set():
            with urllib.request.urlopen(url + "state.json") as answer:
                state = json.load(answer)
            # The snapshot may be a little older than the answer, but never newer than the store.
            answers.append((state, keys()))
            done.wait(0.2)

    with started(tmp_path, "run", file) as process:
        wait_until(lambda: any((run / "run").glob("config-*")), process)
        with serving(run) as url:
            asking = threading.Thread(target=ask, args=(url,))
            asking.start()
            try:
                for kind, count in (("minima", 1), ("pairs", 1), ("pairs", 3)):
                    wait_until(
                        lambda k=kind, c=count: len(results.raw_records(run, k)) >= c, process
                    )
                    for victim in workers_of(process)[:1]:
                        victim.kill()
                output, _ = process.communicate(timeout=240)
                assert process.returncode == 0, output
            finally:
                done.set()
                asking.join()
            with urllib.request.urlopen(url + "state.json") as answer:
                last = json.load(answer)
    seen = [0, 0]
    for state, after in answers:
        told = [count["done"] for count in state["counts"][:2]]
        assert all(a <= b for a, b in zip(told, after, strict=True)), (
            "nothing undone is called done"
        )
        assert all(a <= b for a, b in zip(seen, told, strict=True)), "what is done stays done"
        assert state["complete"] == (told == [MINIMA, PAIRS])
        seen = told
    assert len({tuple(c["done"] for c in state["counts"]) for state, _ in answers}) > 3
    assert any(state["driver"] == "running" for state, _ in answers)
    assert last["driver"] in ("not running", "running")
    assert [count["done"] for count in last["counts"][:2]] == [MINIMA, PAIRS]
