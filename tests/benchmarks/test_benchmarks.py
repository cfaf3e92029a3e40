"""`make benchmark`: each study prints its table; what must hold on any machine is asserted."""

import pytest
import torch

from tests.benchmarks import (
    agreement,
    fig5,
    gaussians,
    heights,
    lazy,
    pairs_needed,
    speed,
    whole_run,
)

pytestmark = pytest.mark.benchmark


@pytest.mark.timeout(3600)
def test_speed():
    """On one thread no row is slower than the literal loop; the ratios are in the table."""
    ratios = speed.main()
    assert all(ratio > 1 for row, ratio in ratios.items() if row != "two")


@pytest.mark.timeout(3600)
def test_agreement():
    """In float64, all gradients of fifty steps are the literal loop's."""
    for (network, strategy, precision), apart in agreement.main().items():
        if precision == "float64":
            assert apart < 1e-12, (network, strategy)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("regime", ["fc", "cnn", "noisy"])
def test_heights(regime):
    """At equal gradients our default is lower than any other method, in the median."""
    assert heights.main([regime])[regime] < 1


@pytest.mark.timeout(3600)
def test_gaussians():
    """At least 95 of 100 passes are found, in the plane and in 1,000 dimensions."""
    for seeds in gaussians.main().values():
        assert len(seeds) <= 5


@pytest.mark.timeout(3600)
def test_fig5():
    """On a GPU the ResNet study has a price: its paths and its training run at full minibatch."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU: on a processor this would time what nobody would run")
    assert 0 < fig5.main() < float("inf")


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", list(lazy.RUNS))
def test_lazy(name):
    """What is proved is within its tolerance of all pairs, in the bottleneck distance."""
    rows = lazy.main([name])
    assert rows
    for row in rows.values():
        assert not row.proved or row.distance <= row.tolerance


@pytest.mark.timeout(3600)
def test_pairs_needed():
    """Where passes are within the tolerance of their floors, little more than a star is needed."""
    needed = pairs_needed.main()["connected", 3e-3]
    assert needed[-1] < 1.2 * pairs_needed.COUNTS[-1]


@pytest.mark.timeout(3600)
def test_whole_run():
    """The literal loop takes more than 20 times as long to heights within 1 % of the best known."""
    assert whole_run.main({"pairs": "1"}) > 1
