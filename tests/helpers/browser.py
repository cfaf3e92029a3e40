"""A real browser: Debian's Chromium, driven by Playwright; tests skip where it is not installed."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

PHONE, DESK = (390, 844), (1440, 900)


@dataclass
class Seen:
    """The requests, errors and messages of a page while it was open."""

    page: Any
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        script = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        return int(self.page.evaluate(script))

    def faults(self) -> list[str]:
        """What axe-core finds that is serious or critical."""
        from axe_playwright_python.sync_playwright import Axe

        found = Axe().run(self.page).response["violations"]
        return [
            f"{v['id']}: {v['help']}: {[node['html'][:200] for node in v['nodes'][:3]]}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]


@contextlib.contextmanager
def opened(url: str, *, size: tuple[int, int] = DESK, scheme: str = "light") -> Iterator[Seen]:
    """A page in a fresh browser window of `size` pixels, light or dark."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme
        )
        page = context.new_page()
        seen = Seen(page)
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on(
            "console",
            lambda message: (
                seen.errors.append(message.text) if message.type in ("error", "warning") else None
            ),
        )
        page.on("request", lambda request: seen.requests.append(request.url))
        page.goto(url)
        try:
            yield seen
        finally:
            browser.close()
