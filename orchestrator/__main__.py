"""`python -m orchestrator` runs the command `toscore`."""

import os
import sys
from pathlib import Path

# With `python -m`, Python searches the current folder for modules first, and would import a user's `yaml.py`
# in place of the library. So the folder is removed from the path, unless this program itself is in it.
if Path(sys.path[0] or os.curdir).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from orchestrator.cli import main

if __name__ == "__main__":
    main()
