"""Exit codes of `toscore run`. A shell, Slurm's sbatch script and KubeRay's RayJob read them.

| code | meaning                                   | start again unchanged?|
|------|-------------------------------------------|-----------------------|
| 0    | complete                                  | nothing left          |
| 1    | a bug                                     | no                    |
| 2    | bad input, or another driver runs the run | no                    |
| 3    | tasks have failed, or all fail alike      | no: `toscore retry`   |
| 4    | stopped by `toscore stop`                 | no: the stop was requested |
| 75   | store or cluster unreachable (EX_TEMPFAIL)| yes                   |
| 130  | interrupted by Ctrl-C or SIGTERM          | by whoever sent it    |
| 141  | the reader of the output has gone (SIGPIPE) | yes, with a reader  |
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes, which stay the same between releases."""

    COMPLETE = 0
    BUG = 1
    BAD_INPUT = 2
    FAILED_TASKS = 3
    STOPPED = 4
    UNREACHABLE = 75
    """`EX_TEMPFAIL` of sysexits.h: the only code after which the same command should be started again."""
    INTERRUPTED = 130
    CLOSED_PIPE = 141
    """As a shell reports of a program that SIGPIPE ended: 128 + 13."""
