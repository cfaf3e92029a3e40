"""`toscore report`: the page and the files contain the results of the store, and all of them."""

import base64
import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest

from orchestrator.report.contents import figures, points_of
from orchestrator.runs.stored_run import open_run
from tests.helpers.command import toscore
from tests.helpers.made_run import HEIGHTS, LOSSES, complete_run, made_run, run_with_loops

FIGURES = {
    "barcode-0",
    "persistence-diagram",
    "disconnectivity-graph",
    "pass-heights",
    "loss-along-paths",
    "length-and-test-error",
    "training-curves",
    "path-optimisation",
}

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Outline(HTMLParser):
    """Checks that every element is closed in its turn, and collects ids, links and downloads."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.downloads = [], [], [], {}

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, values)

    def handle_startendtag(self, tag, attributes):
        self._note(tag, dict(attributes))

    def _note(self, tag, values):
        if "id" in values:
            self.ids.append(values["id"])
        for name in ("href", "xlink:href", "src"):
            if name in values:
                self.references.append(values[name])
        if "download" in values:
            self.downloads[values["download"]] = values["href"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def outline(report):
    parser = Outline()
    parser.feed((report / "report.html").read_text())
    parser.close()
    assert parser.open == []
    return parser


def test_every_figure_is_there_in_every_form(report):
    """Each figure is a PNG, a PDF, a CSV and a JSON file, and none is empty."""
    for name in FIGURES:
        data = {s: (report / "figures" / f"{name}.{s}").read_bytes() for s in ("png", "pdf")}
        assert data["png"].startswith(b"\x89PNG") and data["pdf"].startswith(b"%PDF")
        rows = list(csv.reader((report / "figures" / f"{name}.csv").open()))
        assert len(rows) > 1
        listed = json.loads((report / "figures" / f"{name}.json").read_text())
        assert len(listed) == len(rows) - 1 and list(listed[0]) == rows[0]
    assert not list(report.rglob("*.part"))


def test_the_page_is_well_formed_and_needs_nothing_else(outline):
    """Elements nest, ids are unique, links have targets; the page fetches nothing and has no scripts."""
    assert set(outline.ids) >= FIGURES
    assert len(outline.ids) == len(set(outline.ids))
    for reference in outline.references:
        assert reference.startswith(("#", "data:")), reference
        if reference.startswith("#"):
            assert reference[1:] in outline.ids


def test_the_page_carries_the_data_of_its_figures(outline, report):
    """What the page offers for download is the CSV file beside the figure."""
    assert {f"{name}.csv" for name in FIGURES} <= set(outline.downloads)
    for name, link in outline.downloads.items():
        data = base64.b64decode(link.split(",", 1)[1])
        assert data == (report / "figures" / name).read_bytes()


def read(report, name):
    return list(csv.DictReader(io.StringIO((report / "figures" / f"{name}.csv").read_text())))


def test_the_barcode_is_the_known_one(report):
    """The data of the barcode are the bars worked out by hand, by both rules."""
    bars = {
        (row["barcode"], row["born at"]): (float(row["birth"]), float(row["death"]), row["dies at"])
        for row in read(report, "barcode-0")
    }
    assert bars["Elder rule", "0"] == (0.1, math.inf, "")
    assert bars["Elder rule", "1"] == (0.2, 0.7, "1–3")
    assert bars["Elder rule", "2"] == (0.3, 0.5, "1–2")
    assert bars["Elder rule", "3"] == (0.15, 0.8, "0–3")
    assert bars["Direct paths only (Algorithm 1)", "1"] == (0.2, 0.7, "1–3")
    assert len(bars) == 2 * len(LOSSES)


def test_bars_of_index_1_are_shown_where_the_run_has_them(tmp_path):
    """A barcode of its own with the bars worked out by hand, in every form, and its score on top."""
    made = run_with_loops(tmp_path)
    assert toscore("report", made.folder).code == 0
    bars = [(float(r["birth"]), float(r["death"])) for r in read(made.folder, "barcode-1")]
    assert bars == [(0.9, 1.3), (1.2, 1.5)]
    assert [r["dies at"] for r in read(made.folder, "barcode-1")] == ["0–1–3", "1–2–3"]
    assert (made.folder / "figures" / "barcode-1.pdf").read_bytes().startswith(b"%PDF")
    page = (made.folder / "report.html").read_text()
    assert '<figure id="barcode-1">' in page
    assert re.search(r"TO-score of index 1</dt><dd>0\.2<", page)


def test_heights_and_profiles_are_those_of_the_store(report, made):
    """Every pass is in the matrix's data; every path that ends a bar has its whole profile."""
    found = {(int(r["i"]), int(r["j"])): float(r["height"]) for r in read(report, "pass-heights")}
    assert found == HEIGHTS
    landscape = open_run(str(made.folder)).landscape()
    rows = read(report, "loss-along-paths")
    assert {row["path"] for row in rows} == {"0–3", "1–3", "1–2"}
    for pair in ((0, 3), (1, 3), (1, 2)):
        curve = [float(r["loss"]) for r in rows if r["path"] == f"{pair[0]}–{pair[1]}"]
        assert curve == list(landscape.passes[pair].losses)


def test_figures_follow_the_colours_of_the_page(report):
    """No drawing has a colour of its own for ink: all are custom properties with a dark value."""
    page = (report / "report.html").read_text()
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--ink)" in drawings and "var(--first)" in drawings
    fixed = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawings))
    assert fixed <= {"#000000"}  # defaults of elements that are not painted
    dark = page[page.index("prefers-color-scheme: dark") :]
    for name in re.findall(r"var\((--[a-z]+)\)", drawings):
        assert f"{name}:" in dark


@pytest.mark.usefixtures("undrawn")
def test_an_incomplete_run_says_so_first(tmp_path):
    """What is missing and what failed is in the page, in words, before the figures."""
    made = made_run(tmp_path, 4)
    made.minima(dict(enumerate(LOSSES)))
    made.paths({pair: HEIGHTS[pair] for pair in ((0, 1), (0, 2))}, LOSSES)
    made.fails((1, 2), "a point became <infinite> in epoch 3; lower the learning rate")
    said = toscore("report", made.folder)
    assert said.code == 0, said.err
    page = (made.folder / "report.html").read_text()
    assert page.index("Incomplete: without") < page.index("<figure")
    assert "a point became &lt;infinite&gt; in epoch 3" in page
    assert "toscore retry" in page and "<infinite>" not in page
    # What is undecided is drawn as such.
    rows = {row["minimum"]: row for row in read(made.folder, "barcode-so-far")}
    assert page.index('id="barcode-so-far"') < page.index('id="barcode-0"')
    assert rows["3"]["decided"] == "no" and rows["0"]["decided"] == "yes"


def test_a_run_without_results_has_a_report(tmp_path):
    """A report can be made before anything is done; it has no figure and says what is missing."""
    made = made_run(tmp_path, 3)
    assert toscore("report", made.folder).code == 0
    page = (made.folder / "report.html").read_text()
    assert "3 of 3 minima" in page and "<figure" not in page


def test_a_report_changes_nothing_else_and_comes_out_the_same(made, report, tmp_path):
    """A report is written into the run's folder by default; its bytes do not depend on the time, and the
    store is unchanged."""
    again = complete_run(tmp_path)
    before = toscore("reduce", again.folder, "--json").out
    assert toscore("report", again.folder).code == 0
    assert again.store.verify() == []
    assert toscore("reduce", again.folder, "--json").out == before
    for file in report.rglob("*"):
        if file.is_file():
            same = (again.folder / file.relative_to(report)).read_bytes()
            # The page says where its run lies.
            same = same.replace(bytes(tmp_path), bytes(made.folder.parent))
            assert same == file.read_bytes(), file


def test_a_birth_above_its_height_by_rounding_is_no_obstacle(tmp_path):
    """A birth may be above the height of its path by rounding: a minimum is evaluated alone and with its
    path."""
    made = made_run(tmp_path, 3)
    losses = (0.1, 0.2, 0.3)
    made.minima(dict(enumerate(losses)))
    made.paths({(0, 1): 0.5, (0, 2): 0.3 - 1e-9, (1, 2): 0.6}, losses)
    said = toscore("report", made.folder)
    assert said.code == 0, said.err


def test_where_it_cannot_be_written_is_one_sentence(made, tmp_path):
    """A folder that is a file is refused with what to do, and exit code 2."""
    (tmp_path / "file").write_text("")
    said = toscore("report", made.folder, "--out", tmp_path / "file")
    assert said.code == 2
    assert "name another folder with --out" in said.err and "Traceback" not in said.err


def test_every_figure_is_described_in_words(made):
    """Captions and alternative texts are whole sentences, and differ from each other."""
    run = open_run(str(made.folder))
    landscape = run.landscape()
    found = list(figures(run.plan, landscape, points_of(run, landscape)))
    assert {figure.name for figure in found} == FIGURES
    for figure in found:
        assert figure.alt.endswith(".") and figure.caption.endswith((".", "rest."))
        assert len(figure.alt) > 40
    assert len({figure.alt for figure in found}) == len(found)
