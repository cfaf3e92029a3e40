"""`python -m orchestrator` is `toscore`."""

from orchestrator.cli import main

if __name__ == "__main__":
    main()
