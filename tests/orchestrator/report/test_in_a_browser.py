"""The report as people see it: in Chromium, on a phone and on a desk, light and dark."""

import pytest

from tests.helpers.browser import DESK, PHONE, opened
from tests.orchestrator.report.test_report import FIGURES

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_the_report_is_sound_in_a_browser(report, size, scheme):
    """No error, no request but the file itself, no overflow, every figure seen, no fault by axe."""
    with opened((report / "report.html").as_uri(), size=size, scheme=scheme) as seen:
        assert seen.errors == [] and len(seen.requests) == 1
        assert seen.overflow() <= 0
        for name in FIGURES:
            drawings = seen.page.locator(f"#{name} svg[role=img]")
            shown = [box for box in drawings.all() if box.is_visible()]
            assert len(shown) == 1, name
            box = shown[0].bounding_box()
            assert 200 < box["width"] <= size[0] and box["height"] > 80
        assert seen.faults() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_a_comparison_is_sound_in_a_browser(comparison, size, scheme):
    """The same of `toscore compare`."""
    with opened((comparison / "compare.html").as_uri(), size=size, scheme=scheme) as seen:
        assert seen.errors == [] and seen.overflow() <= 0
        assert seen.page.locator("figure svg:visible").count() == 6
        assert seen.faults() == []


def test_it_can_be_read_by_keyboard(report):
    """The first key leads to the figures; data tables open by Enter and can be scrolled."""
    with opened((report / "report.html").as_uri(), size=PHONE) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.url.endswith("#main")
        summary = page.locator("#pass-heights summary")
        summary.focus()
        page.keyboard.press("Enter")
        table = page.locator("#pass-heights .scroll")
        assert table.is_visible()
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "scroll"
        assert seen.faults() == []


def test_letters_of_figures_can_be_read(report):
    """On a phone no letter of a figure is drawn smaller than 8 pixels."""
    script = """() => [...document.querySelectorAll(".narrow svg text")].map(t => {
        const box = t.closest("svg").getBoundingClientRect();
        const scale = box.width / t.closest("svg").viewBox.baseVal.width;
        return parseFloat(getComputedStyle(t).fontSize) * scale;
    })"""
    with opened((report / "report.html").as_uri(), size=PHONE) as seen:
        assert min(seen.page.evaluate(script)) >= 8
