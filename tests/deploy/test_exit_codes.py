"""After which exit codes the files in deploy/ start a run again, with a `toscore` of given exit codes."""

import os
import subprocess

import pytest

from orchestrator.endings import EXIT
from orchestrator.scheduling.exit_codes import ExitCode
from orchestrator.scheduling.outcome import Ending
from tests.deploy.files import DEPLOY, documents

HELPS = {ExitCode.UNREACHABLE}
"""Codes after which the same command should be started again by a machine."""


@pytest.fixture
def programs(tmp_path):
    """Runs a command with fake programs in front of the PATH, and returns its code, output and calls."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(command, fakes, **environment):
        for name, body in fakes.items():
            file = folder / name
            file.write_text(f'#!/usr/bin/env bash\necho "{name} $*" >> {tmp_path}/calls\n{body}\n')
            file.chmod(0o755)
        variables = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **environment}
        # A file, no pipe: programs that outlive the command must not be waited for.
        with (tmp_path / "output").open("w+") as output:
            code = subprocess.run(
                command, env=variables, stdout=output, stderr=output, timeout=60, check=False
            ).returncode
            output.seek(0)
            said = output.read()
        return code, said, (tmp_path / "calls").read_text().splitlines()

    return run


def test_every_ending_has_a_code():
    """An ending without a code would be a traceback at the end of a run."""
    assert set(EXIT) == set(Ending)
    assert EXIT[Ending.GAVE_UP] in HELPS and EXIT[Ending.STOPPED] not in HELPS


@pytest.mark.parametrize("code", list(ExitCode))
def test_kuberay_starts_again_what_that_helps(programs, code):
    """KubeRay counts a non-zero code as a failed attempt, and makes a new cluster for the next."""
    (manifest,) = documents(DEPLOY / "kuberay" / "rayjob.yaml")
    ended, output, _ = programs(
        ["bash", "-c", manifest["spec"]["entrypoint"]], {"toscore": f"exit {int(code)}"}
    )
    if code in (ExitCode.BAD_INPUT, ExitCode.FAILED_TASKS, ExitCode.STOPPED):
        assert ended == 0 and f"ended with code {int(code)}" in output
    else:
        assert ended == code


def slurm(programs, code, *, state="echo RUNNING", scontrol="true", term=False, **environment):
    """What the batch script does on a node when `toscore` ends with a code."""
    fakes = {
        "srun": "exec timeout 20 tail -f /dev/null --pid=$PPID > /dev/null 2>&1",
        "ray": "exit 0",
        "scontrol": f"if [[ $1 == show ]]; then echo n1; else {scontrol}; fi",
        "squeue": state,
        "sleep": "exit 0",
        "toscore": ("trap '' TERM; kill -TERM $PPID; " if term else "") + f"exit {int(code)}",
    }
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}
    ended, output, calls = programs(
        ["bash", str(DEPLOY / "slurm" / "toscore.sbatch"), "a.yaml"],
        fakes,
        **variables,
        **environment,
    )
    return ended, output, "scontrol requeue 7" in calls


@pytest.mark.parametrize("code", list(ExitCode))
def test_slurm_puts_back_what_that_helps(programs, code):
    """The job ends with the code of the run, and only an unreachable store or cluster requeues it."""
    ended, _, requeued = slurm(programs, code)
    assert (ended, requeued) == (code, code in HELPS)


def test_slurm_puts_a_job_back_near_its_time_limit(programs):
    """Slurm's TERM interrupts the run, and the job continues it when it is scheduled again."""
    ended, output, requeued = slurm(programs, ExitCode.INTERRUPTED, term=True)
    assert (ended, requeued) == (130, True), output
    assert "goes back into the queue" in output


def test_slurm_does_not_put_back_for_ever(programs):
    """After ten restarts a job is not put back into the queue."""
    _, _, requeued = slurm(programs, ExitCode.UNREACHABLE, SLURM_RESTART_COUNT="10")
    assert not requeued


@pytest.mark.parametrize(
    "broken", [{"state": "exit 127"}, {"scontrol": "exit 1"}, {"scontrol": "exit 127"}]
)
def test_slurm_says_when_it_cannot_put_back(programs, broken):
    """Without squeue or scontrol on the node, or the right to requeue, the log says what to do."""
    ended, output, _ = slurm(programs, ExitCode.UNREACHABLE, **broken)
    assert ended == 75 and "submit the same command again" in output


def test_a_cancelled_slurm_job_is_not_put_back(programs):
    """It gets TERM as well, and is no longer running by then."""
    _, output, requeued = slurm(programs, ExitCode.INTERRUPTED, term=True, state="echo COMPLETING")
    assert not requeued and "submit" not in output


def test_two_slurm_jobs_on_one_node_have_different_ports(programs):
    """Job numbers that differ by 5,000 begin with the same port: the second takes the next free one."""
    import socket

    with socket.create_server(("127.0.0.1", 20028)):
        fakes = {
            "srun": "exec timeout 20 tail -f /dev/null --pid=$PPID > /dev/null 2>&1",
            "ray": "exit 0",
            "scontrol": "echo n1",
            "toscore": "exit 0",
        }
        variables = {"SLURM_JOB_ID": "5007", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NUM_NODES": "1"}
        _, _, calls = programs(
            ["bash", str(DEPLOY / "slurm" / "toscore.sbatch"), "a.yaml"], fakes, **variables
        )
    (run,) = [call for call in calls if call.startswith("toscore run")]
    assert run.endswith(":20032")
