"""Where points are inserted."""

import pytest
import torch

from topo_core.paths.criteria.protocol import Segments
from topo_core.paths.criteria.registry import CRITERIA
from topo_core.paths.insertion import insert, segments_to_split
from topo_core.paths.insertion_settings import Insertion


def test_equal_spacing_scores_one():
    """By the distance criterion a straight, even path has D = 1 on each segment."""
    lengths = torch.full((8,), 0.5)
    scores = CRITERIA["distance"].scores(Segments(lengths, 4.0, torch.empty(0), torch.empty(0)))
    torch.testing.assert_close(scores, torch.ones(8))


def test_loss_criterion_divides_by_the_highest_loss():
    """By the loss criterion D is the highest loss inside over that of the points."""
    inside = torch.tensor([[0.0, 3.0, 1.0, 0.0], [1.0, 1.0, 0.5, 0.0]])
    nodes = torch.tensor([0.1, 2.0, 0.2])
    scores = CRITERIA["loss"].scores(Segments(torch.ones(2), 1.0, nodes, inside))
    torch.testing.assert_close(scores, torch.tensor([1.5, 0.5]))


def test_residual_is_measured_from_linear_interpolation():
    """A segment whose loss is linear has D = 1; a bump adds its share of the range."""
    nodes = torch.tensor([0.0, 1.0, 0.0])
    linear = torch.tensor([0.2, 0.4, 0.6, 0.8])
    inside = torch.stack([linear, linear.flip(0) + torch.tensor([0.0, 0.5, 0.0, 0.0])])
    scores = CRITERIA["residual"].scores(Segments(torch.ones(2), 1.0, nodes, inside))
    torch.testing.assert_close(scores, torch.tensor([1.0, 1.5]))


def test_the_two_largest_above_the_threshold():
    """At most two segments, only those above the threshold, the larger index first."""
    score = torch.tensor([1.3, 1.0, 2.0, 1.5])
    assert segments_to_split(score, 1.2, room=9) == [3, 2]
    assert segments_to_split(score, 1.6, room=9) == [2]
    assert segments_to_split(score, 3.0, room=9) == []
    assert segments_to_split(score, 1.2, room=1) == [2]


def test_midpoints_go_where_they_belong():
    """Both midpoints lie in their own segments of the original path."""
    rows = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert insert(rows, [2, 0]).flatten().tolist() == [0.0, 0.5, 1.0, 3.0, 5.0, 7.0]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"every": 0}, "insertion.every is 0"),
        ({"every": True}, "insertion.every is True; it must be a whole number"),
        ({"every": 2.5}, "insertion.every is 2.5; it must be a whole number"),
        ({"criterion": "length"}, "choose one of distance, loss, residual"),
        ({"ends": "free"}, "choose one of fixed, paper"),
        ({"threshold": float("nan")}, "insertion.threshold is nan"),
        ({"max_points": 2}, "insertion.max_points is 2"),
    ],
)
def test_impossible_insertion_is_refused(numbers, message):
    """A wrong number is refused by one sentence that names its key."""
    with pytest.raises(ValueError, match=message):
        Insertion(**numbers)
