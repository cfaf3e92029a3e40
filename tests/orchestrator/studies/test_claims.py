"""Claims are judged as the textbooks do, checked by counting permutations."""

import itertools
import math

import pytest

from orchestrator.studies.claims import adjusted, judge
from orchestrator.studies.study_file import Claim

FALLS = Claim(say="falls", measure="m", along="x", expect="falls")
RISES = FALLS.model_copy(update={"expect": "rises"})
POSITIVE = Claim(say="positive", measure="m", expect="positive")


def measured(rows, labels):
    """`rows` of a block each, at `labels` of the axis x."""
    return {
        (("x", label), ("seed", str(block))): value
        for block, row in enumerate(rows)
        for label, value in zip(labels, row, strict=True)
    }


def page_by_counting(rows):
    """P(L >= observed) over all permutations within blocks, for a measure expected to rise."""

    def score(ranked):
        return sum(i * r for row in ranked for i, r in enumerate(row))

    ranked = [[sorted(row).index(v) for v in row] for row in rows]
    orders = itertools.product(*(itertools.permutations(row) for row in ranked))
    scores = [score(order) for order in orders]
    return sum(s >= score(ranked) for s in scores) / len(scores)


@pytest.mark.parametrize(
    "rows",
    [
        [[1, 2, 3], [2, 5, 9]],
        [[1, 3, 2], [2, 5, 9], [1, 2, 4]],
        [[3, 2, 1], [1, 2, 3], [5, 4, 7]],
    ],
)
def test_three_places_are_judged_by_page(rows):
    """The p-value is the share of permutations that are ordered as well."""
    found = judge(RISES, "abc", measured(rows, "abc"))
    assert found.p == pytest.approx(page_by_counting(rows), abs=1e-9)
    assert found.blocks == len(rows)
    assert found.agreeing == sum(row == sorted(row) for row in rows)


def test_two_places_are_judged_by_sign_flips():
    """With differences 3, 2, -1 three of eight sign patterns give a sum of 4 or more."""
    rows = [[0, 3], [5, 7], [2, 1]]
    found = judge(RISES, "ab", measured(rows, "ab"))
    sums = [
        sum(s * d for s, d in zip(f, (3, 2, -1), strict=True))
        for f in itertools.product((1, -1), repeat=3)
    ]
    assert found.p == sum(s >= 4 for s in sums) / 8 == 0.25
    assert (found.agreeing, found.blocks) == (2, 3)
    assert found.tau == pytest.approx(1 / 3)


def test_directions():
    """What falls does not rise."""
    rows = [[9, 5, 1], [8, 3, 2], [7, 6, 5]]
    falls, rises = (judge(claim, "abc", measured(rows, "abc")) for claim in (FALLS, RISES))
    assert (falls.verdict, rises.verdict) == ("holds", "does not hold")
    assert falls.tau == 1 and rises.tau == -1
    assert falls.means == pytest.approx((8, 14 / 3, 8 / 3))


def test_three_seeds_cannot_establish_a_difference_of_two():
    """Seen in every block, and still more than one in twenty: the verdict says just that."""
    found = judge(FALLS, "ab", measured([[2, 1]] * 3, "ab"))
    assert (found.agreeing, found.p) == (3, 0.125)
    assert found.verdict == "same direction, not established"
    assert judge(FALLS, "ab", measured([[2, 1]] * 5, "ab")).verdict == "holds"


def test_positive_measures():
    """Without an axis each run is a block, and its value should be above zero."""
    found = judge(
        POSITIVE, (), {(("seed", str(s)),): v for s, v in enumerate((0.5, 0.2, 0.1, 0.4, 0.3))}
    )
    assert (found.p, found.agreeing, found.verdict) == (1 / 32, 5, "holds")
    assert found.means == pytest.approx((0.3,))
    assert judge(POSITIVE, (), {(("seed", "0"),): -0.5}).verdict == "does not hold"


def test_blocks_that_are_not_complete_do_not_count():
    """A block without a value at one position is left out; without blocks the claim cannot be tested."""
    rows = measured([[3, 2, 1], [3, None, 1]], "abc")
    assert judge(FALLS, "abc", rows).blocks == 1
    empty = judge(FALLS, "abc", dict.fromkeys(rows, math.nan))
    assert empty.verdict == "not reached" and empty.to_json()["p"] is None


def test_confined_claims():
    """`among` selects positions of the axis, `only` labels of the others."""
    rows = measured([[3, 9, 1], [1, 9, 3]], "abc")
    ends = judge(FALLS.model_copy(update={"among": ("a", "c")}), "abc", rows)
    assert (ends.labels, ends.agreeing, ends.blocks) == (("a", "c"), 1, 2)
    first = judge(
        FALLS.model_copy(update={"among": ("a", "c"), "only": {"seed": ["0"]}}), "abc", rows
    )
    assert (first.agreeing, first.blocks) == (1, 1)


def test_claims_of_one_study_are_adjusted_by_holm():
    """Of p = 1/32, 1/8, 1/4 and one that was not reached, three count: 3/32, 2/8 and 1/4 made monotone."""
    alone = [
        judge(FALLS, "ab", measured([[2, 1]] * 5, "ab")),
        judge(FALLS, "ab", {}),
        judge(FALLS, "ab", measured([[2, 1]] * 2, "ab")),
        judge(FALLS, "ab", measured([[2, 1]] * 3, "ab")),
    ]
    together = adjusted(alone)
    assert [j.p for j in together if j.blocks] == [1 / 32, 1 / 4, 1 / 8]
    assert [j.p_holm for j in together if j.blocks] == [3 / 32, 1 / 4, 1 / 4]
    assert alone[0].verdict == "holds"
    assert together[0].verdict == "same direction, not established"
    assert together[1].verdict == "not reached"
