"""Learning-rate schedules against their formulas."""

import itertools

import pytest

from topo_core.paths.schedules import Schedule


def literal(i, size, m1, m2, high, low):
    """S(m1, m2, lr_max, lr_min, i) of Appendix A; i counts batches, ``size`` is |D|."""
    if i <= size * m1:
        return high
    if i >= size * m2:
        return low
    delta = (i - size * m1) / (size * (m2 - m1))
    return (1 - delta) * high + delta * low


@pytest.mark.parametrize(("m1", "m2"), [(2, 6), (0, 8), (3, 3.5)])
def test_paper_schedule_is_appendix_a(m1, m2):
    """``paper`` equals the formula of Appendix A at every batch."""
    schedule = Schedule("paper", m1=m1, m2=m2, lr_max=2e-3, lr_min=1.25e-4)
    for epoch in range(9):
        for batch in range(5):
            expected = literal(5 * epoch + batch, 5, m1, m2, 2e-3, 1.25e-4)
            assert schedule.rate(epoch, batch, 5, 9.0, 9) == pytest.approx(expected, rel=1e-12)


def test_paper_schedule_without_a_ramp():
    """S(0, 0, lr, lr), where the formula is 0/0, is the constant lr."""
    schedule = Schedule("paper", m1=0, m2=0, lr_max=0.01, lr_min=0.01)
    assert {schedule.rate(e, b, 3, 1.0, 4) for e in range(4) for b in range(3)} == {0.01}


def test_cyclic_is_a_triangle():
    """``cyclic`` goes from lr_min up to lr_max and back in each period."""
    schedule = Schedule("cyclic", lr_min=0.1, lr_max=0.5, period=2)
    rates = [schedule.rate(epoch, batch, 2, 1.0, 4) for epoch in range(4) for batch in range(2)]
    assert rates == pytest.approx([0.1, 0.3, 0.5, 0.3] * 2)


def test_anneal_ends_at_its_factor():
    """``anneal`` keeps the base rate up to its start and then falls to near the factor."""
    schedule = Schedule("anneal", start=0.5, factor=0.1)
    rates = [schedule.rate(epoch, 0, 1, 2.0, 100) for epoch in range(100)]
    assert rates[:51] == [2.0] * 51
    assert all(a > b for a, b in itertools.pairwise(rates[50:]))
    assert rates[-1] == pytest.approx(0.2, rel=0.02)


def test_constant_is_the_base_rate():
    """``constant`` returns the optimiser's own rate at every batch."""
    assert {Schedule().rate(e, b, 2, 0.3, 5) for e in range(5) for b in range(2)} == {0.3}


@pytest.mark.parametrize(
    ("schedule", "epochs", "expected"),
    [
        (Schedule(), 100, 100),
        (Schedule("cyclic", lr_min=0, lr_max=1, period=3), 100, 100),
        (Schedule("anneal", start=0.25), 100, 25),
    ],
)
def test_where_the_length_of_the_run_matters(schedule, epochs, expected):
    """Up to the named epoch a run twice as long has the same rates, and not after it."""
    first = schedule.depends_on_epochs_from(epochs)
    assert first == expected

    def rates(total):
        return [schedule.rate(epoch, b, 2, 1.0, total) for epoch in range(epochs) for b in (0, 1)]

    assert rates(epochs)[: 2 * first] == rates(2 * epochs)[: 2 * first]
    assert (rates(epochs) == rates(2 * epochs)) == (first == epochs)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"name": "linear"}, "schedule.name is 'linear'"),
        ({"name": "paper", "m1": 1}, "schedule.m2 is missing"),
        ({"name": "constant", "m1": 1}, "leave it out"),
        ({"name": "paper", "m1": 3, "m2": 1, "lr_max": 1, "lr_min": 1}, "before m1"),
        ({"name": "cyclic", "lr_min": 0, "lr_max": 1, "period": 0}, "above 0 epochs"),
        ({"name": "anneal", "start": 1.5}, "at most 1"),
        ({"name": "anneal", "factor": float("nan")}, "finite"),
    ],
)
def test_impossible_schedules_are_refused(numbers, message):
    """A wrong key or number is refused by one sentence that names it."""
    with pytest.raises(ValueError, match=message):
        Schedule(**numbers)
