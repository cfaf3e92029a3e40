"""One table at the end of a run of the chaos tests: rounds, and how they ended."""

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A row for each chaos test: its rounds, and how many passed; for `-m chaos` alone."""
    if terminalreporter.config.option.markexpr != "chaos":
        return
    counts: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            if "tests/chaos/" in report.nodeid:
                name = report.nodeid.partition("tests/chaos/")[2].partition("[")[0]
                counts.setdefault(name, Counter())[outcome] += 1
    if not counts:
        return
    terminalreporter.section("rounds of chaos")
    width = max(map(len, counts))
    terminalreporter.write_line(f"{'test':{width}}  rounds  passed  failed  skipped")
    for name, outcomes in sorted(counts.items()):
        failed = outcomes["failed"] + outcomes["error"]
        rounds, passed, skipped = outcomes.total(), outcomes["passed"], outcomes["skipped"]
        terminalreporter.write_line(
            f"{name:{width}}  {rounds:6}  {passed:6}  {failed:6}  {skipped:7}"
        )
