"""Which GPUs several workers of one machine see, on a real Ray that believes it has some."""

import subprocess
import sys

import pytest

from tests.helpers.process import ROOT, environment

SCRIPT = """
import os, ray
from orchestrator.cluster.connection import environment
from workers.problems.evaluation import Evaluation

class Seen:
    def devices(self):
        return os.environ["CUDA_VISIBLE_DEVICES"]

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
for gpus, workers in ((1.0, 2), (0.5, 4)):
    variables = {"env_vars": environment(Evaluation(), gpus)}
    worker = ray.remote(num_cpus=1, num_gpus=gpus, runtime_env=variables)(Seen)
    actors = [worker.remote() for _ in range(workers)]
    print(*sorted(ray.get([actor.devices.remote() for actor in actors])))
    for actor in actors:
        ray.kill(actor)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "visible",
    [
        ("1", "3"),
        ("GPU-8f6d3a1c-0000-1111-2222-333344445555", "GPU-9a7e4b2d-0000-1111-2222-333344445555"),
        ("MIG-1b2c3d4e-0000-1111-2222-333344445555", "MIG-5f6a7b8c-0000-1111-2222-333344445555"),
    ],
)
def test_each_worker_sees_a_device_of_its_own(tmp_path, visible):
    """Devices that a scheduler has named by index, UUID or MIG name are shared out as they were named."""
    variables = environment(tmp_path) | {"CUDA_VISIBLE_DEVICES": ",".join(visible)}
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=variables,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert said.returncode == 0, said.stderr
    one, two = visible
    assert said.stdout.splitlines() == [f"{one} {two}", f"{one} {one} {two} {two}"]
