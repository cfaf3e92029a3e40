"""The page on studies: its example is a study, and its table lists every measure."""

import re
from pathlib import Path

import yaml

from orchestrator.studies.measures import FROM_POINTS, FROM_PUBLISHED, MEASURES
from orchestrator.studies.study import expand

PAGE = (Path(__file__).parents[3] / "docs" / "studies.md").read_text()


def test_the_example_expands():
    """It gives six runs at full scale and two at the small one, and the overrides of the page are valid."""
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    values = yaml.safe_load(text)
    assert len(expand(values).cells) == 6
    assert len(expand(values, [("scale", "small")]).cells) == 2
    overrides = [("scale", "small"), ("matrix.width", ["wide"]), ("paths.epochs", 80)]
    (cell,) = expand(values, overrides).cells
    assert cell.run.location == "runs/width-small/wide.seed0"


def test_every_measure_is_explained():
    """The table has each measure of the program, and no other."""
    table = PAGE.split("| measure |")[1].split("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    names = set(re.findall(r"`(\w+)`", " ".join(first_cells)))
    assert names == {*MEASURES, *FROM_POINTS, *FROM_PUBLISHED}
