"""The command line: argv and stdout, nothing else."""

from orchestrator.cli.app import app
from orchestrator.cli.main import main

__all__ = ["app", "main"]
