"""`python -m orchestrator` is `toscore`."""

import os
import sys
from pathlib import Path

# Python looks for modules in the current folder first: a `yaml.py` of the user's would be imported here.
# Where the program itself lies there, the folder is needed.
if Path(sys.path[0] or os.curdir).resolve() != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from orchestrator.cli import main

if __name__ == "__main__":
    main()
