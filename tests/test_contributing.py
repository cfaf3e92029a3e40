"""CONTRIBUTING.md answers a stranger's questions by paths that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_answer_is_a_path_that_exists():
    """At least ten questions, each answered by one or two files or folders of this tree."""
    rows = [
        line.strip("|").split("|")
        for line in (ROOT / "CONTRIBUTING.md").read_text().splitlines()
        if line.startswith("| ") and line.count("|") == 3 and "?" in line
    ]
    assert len(rows) >= 10
    for question, answer in rows:
        paths = re.findall(r"`([\w/.]+)`", answer)
        assert 1 <= len(paths) <= 2, question
        for path in paths:
            assert (ROOT / path).exists(), f"{question.strip()} {path}"
