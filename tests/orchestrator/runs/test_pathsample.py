"""min.data and ts.data of PATHSAMPLE: written from a run, and read as a transition network."""

import math
from dataclasses import replace

import pytest

from orchestrator import read_pathsample
from orchestrator.analysis.reduction import reduce_run
from orchestrator.run_file.errors import UserError
from tests.helpers.command import toscore
from tests.helpers.made_run import complete_run
from tests.orchestrator.analysis.test_reduction import saddle_record


def test_minima_and_saddles_are_written_and_read_back(tmp_path):
    """A verified pass between two minima of the run, and a saddle whose other descent ends at a minimum that
    the run does not have: the barcode of the files is that of these saddles."""
    made = complete_run(tmp_path)
    keys = made.plan.minimum_keys
    verified = replace(
        saddle_record(made, (1, 3), 0.7, (keys[1], keys[3])),
        ended="verified",
        saddle_losses=(0.45,),
        ends=(keys[1], ""),
        end_losses=(0.2, 0.31),
    )
    unfinished = replace(
        saddle_record(made, (1, 2), 0.5, ()),
        saddle_losses=(0.5,),
        ends=(keys[1], ""),
        end_losses=(0.2, math.nan),
    )
    made.store.publish_records([verified, unfinished], term=1)
    losses = reduce_run(made.plan, made.store).losses
    said = toscore("export", made.folder, "--format", "pathsample", "--out", tmp_path / "out")
    assert said.code == 0, said.err
    network = read_pathsample(tmp_path / "out")
    assert [*network.losses.values()] == [*losses.values(), 0.31]
    assert [(t.loss, t.ends) for t in network.transitions] == [(0.7, (2, 4)), (0.45, (2, 5))]
    deaths = {bar.minimum: bar.death for bar in network.barcode.finite}
    higher = 2 if losses[1] > losses[3] else 4
    assert deaths == {higher: 0.7, 5: 0.45}
    rows = (tmp_path / "out" / "min.data").read_text().splitlines()
    assert all(len(row.split()) == 6 for row in rows)
    rows = (tmp_path / "out" / "ts.data").read_text().splitlines()
    assert all(len(row.split()) == 8 for row in rows)


def test_files_of_the_wales_group_give_a_barcode(tmp_path):
    """LJ7 as PATHSAMPLE writes it, with exponents of Fortran and a saddle from a minimum to itself."""
    minima = (-16.505384, -15.935043, -15.593211, -15.533060)
    saddles = ((-15.44473, 1, 2), (-15.31986, 1, 3), (-15.28342, 1, 4), (-15.0, 2, 2))
    (tmp_path / "min.data").write_text(
        "".join(f"  {e:.6f}D+00  0.9D+02  1  1.5 1.5 1.5\n" for e in minima) + "\n"
    )
    (tmp_path / "ts.data").write_text(
        "".join(f"  {e}  0.9D+02  1  {a}  {b}  1.5 1.5 1.5\n" for e, a, b in saddles)
    )
    bars = read_pathsample(tmp_path).barcode.finite
    assert [(bar.birth, bar.death) for bar in bars] == [
        (birth, saddle[0]) for birth, saddle in zip(minima[1:], saddles, strict=False)
    ]


@pytest.mark.parametrize(
    ("minima", "saddles", "says"),
    [
        (
            "1.0 0 1 1 1 1\n",
            "2.0 0 1 1 2 1 1 1\n",
            "joins the minima 1 and 2, but min.data has 1 rows",
        ),
        ("one\n", "", "it must begin with 1 finite number."),
        ("1.0\n", "2.0 0 1\n", "it must begin with 5 finite numbers."),
        (None, "", "cannot be read"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, minima, saddles, says):
    """In one sentence that names the row."""
    if minima is not None:
        (tmp_path / "min.data").write_text(minima)
    (tmp_path / "ts.data").write_text(saddles)
    with pytest.raises(UserError, match=says):
        read_pathsample(tmp_path)


def test_minima_of_a_run_need_points(tmp_path):
    """min.data as a checkpoint is refused, with what to do with it."""
    (tmp_path / "min.data").write_text("1.0 0 1 1 1 1\n")
    file = tmp_path / "run.yaml"
    file.write_text(
        f"name: r\nstore: {tmp_path}\ndata: digits\nnetwork: {{name: fc, hidden: [2]}}\n"
        f"minima: {{count: 1, from: [{tmp_path}/min.data]}}\n"
    )
    said = toscore("run", file, "--in-process")
    assert said.code == 2 and "energies without points" in said.err
