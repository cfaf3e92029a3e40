"""Digests of what four runs compute, to compare two versions of the code bit for bit.

    python -m tests.benchmarks.digests            # this version
    PYTHONPATH=OTHER python digests.py            # the version whose code is in the folder OTHER

The runs: the demo as it was before losses had a ridge, a convolutional network, simplices of index 1, and the
demo's first paths again, stopped after four tasks and resumed. Each runs in one process on one thread. Only
the command line and files of the store are read, so that versions with other modules can be compared.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import safetensors.numpy
import yaml

DEMO = {
    "data": {"name": "mnist5k"},
    "network": {"name": "fc", "hidden": [32, 32]},
    "minima": {
        "count": 6,
        "epochs": 60,
        "batch_size": 64,
        "optimizer": {"name": "adam", "lr": 3.0e-3},
    },
    "paths": {"epochs": 30},
}
SMALL = {
    "data": {"name": "digits"},
    "network": {"name": "fc", "hidden": [16]},
    "minima": {"count": 4, "epochs": 20, "batch_size": 64},
    "paths": {"epochs": 10, "points": 9, "bezier_epochs": 20},
}
RUNS = {
    "demo": DEMO,
    "cnn": SMALL | {"network": {"name": "cnn2", "channels": 4}},
    "index-1": SMALL | {"reduce": {"max_index": 1}, "simplices": {"epochs": 5}},
    "resumed": SMALL,
}


def toscore(folder: Path, *arguments: str) -> str:
    """Standard output of the command, run in ``folder`` on one thread."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        cwd=folder,
        env={**os.environ, **one},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def of(values: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``values``, floats written exactly."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:16]


def minima(run: Path) -> Iterator[str]:
    """A digest for the weights of each minimum."""
    for file in (run / "minima").glob("*.safetensors"):
        tensors = safetensors.numpy.load_file(file)
        yield of([(name, tensors[name].tobytes()) for name in sorted(tensors)])


def paths(run: Path) -> Iterator[str]:
    """A digest for the points of each path."""
    for file in (run / "paths").glob("*.parquet"):
        rows = pq.read_table(file).to_pylist()
        points = [row for row in rows if row["name"] == "points"]
        yield of([(row["row"], np.asarray(row["values"]).tobytes()) for row in points])


def digests(name: str, folder: Path) -> dict[str, str]:
    """Digests of the run ``name`` of ``RUNS``, carried out in ``folder``."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **RUNS[name]}))
    if name == "resumed":
        toscore(folder, "run", f"{name}.yaml", "--in-process", "--set", "minima.count=2")
    toscore(folder, "run", f"{name}.yaml", "--in-process")
    run = folder / "runs" / name
    said = json.loads(toscore(folder, "reduce", str(run), "--json"))
    strategies = [
        json.loads(file.read_text()).get("evaluation", {}).get("strategy")
        for file in sorted((run / "run").glob("config-*.json"))
    ]
    bars = {
        index: sorted((bar["birth"], bar["death"] or np.inf) for bar in list_of(kind))
        for index, kind in said["barcodes"].items()
    }
    return {
        "strategy": str(strategies[0] if strategies else None),
        "minima": of(sorted(minima(run))),
        "paths": of(sorted(paths(run))),
        "losses": of([each["loss"] for each in said["minima"]]),
        "heights": of([(each["i"], each["j"], each["height"]) for each in said["heights"]]),
        "bars": of(bars),
    }


def list_of(kind: dict | list) -> list[dict]:
    """The bars of one index: index 0 has two barcodes, of which this is the elder rule's."""
    return kind["elder"] if isinstance(kind, dict) else kind


def main() -> None:
    """Print the digests of all runs, or of those that the arguments name."""
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or RUNS:
            said = digests(name, Path(folder))
            print(name, *(f"{key} {value}" for key, value in said.items()), flush=True)


if __name__ == "__main__":
    main()
