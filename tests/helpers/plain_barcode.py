"""The barcode of a run of fully connected networks on digits, from its stored files, in plain torch.

    python plain_barcode.py RUN

reads the weights of the minima and the points of the paths under RUN, evaluates the loss along every
path on a fine grid, and joins minima by the lowest passes. It shares no code with the program that made
the run: what it needs of it is repeated here. Prints JSON: losses, heights, bars, TO-scores.
"""

import gzip
import hashlib
import importlib.util
import io
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import safetensors.torch
import torch

ALPHAS = torch.linspace(0, 1, 41, dtype=torch.float64)
PEAKS, ZOOMS = 8, 3


def drawn(count, *name):
    """A permutation of `count`, drawn from the SHA-256 of its purpose."""
    seed = int.from_bytes(hashlib.sha256(repr(name).encode()).digest()[:8], "big") >> 1
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def training_set(subset):
    """scikit-learn's digits without the 360 held out, normalised, and the first `subset` as drawn."""
    package = Path(importlib.util.find_spec("sklearn").origin).parent
    packed = (package / "datasets/data/digits.csv.gz").read_bytes()
    table = np.loadtxt(io.BytesIO(gzip.decompress(packed)), delimiter=",")
    images, labels = torch.tensor(table[:, :-1] / 16).float(), torch.tensor(table[:, -1]).long()
    kept = drawn(len(images), "held-out", "digits")[360:]
    images, labels = images[kept], labels[kept]
    images = (images - images.mean()) / images.std()
    if subset is not None:
        chosen = drawn(len(images), "subset", "digits")[:subset]
        images, labels = images[chosen], labels[chosen]
    return images.double(), labels


class Loss:
    """Mean cross entropy of flat weights, in float64."""

    def __init__(self, hidden, data):
        widths = [data[0].shape[1], *hidden, int(data[1].max()) + 1]
        self.layers, self.data = list(itertools.pairwise(widths)), data

    def __call__(self, point):
        values, start = self.data[0], 0
        for number, (inputs, outputs) in enumerate(self.layers):
            weight = point[start : start + inputs * outputs].view(outputs, inputs)
            bias = point[start + inputs * outputs : start + (inputs + 1) * outputs]
            start += (inputs + 1) * outputs
            values = values @ weight.T + bias
            values = values if number == len(self.layers) - 1 else values.relu()
        return float(torch.nn.functional.cross_entropy(values, self.data[1]))


def height(loss, points):
    """The highest loss on a polygon: a grid on each segment, then finer grids around its peaks."""
    segments = [(loss, a, b) for a, b in itertools.pairwise(points)]
    step = float(ALPHAS[1])
    found = [(value, s, float(t)) for s in range(len(segments)) for t in ALPHAS
             for value in [along(segments[s], t)]]  # fmt: skip
    for _ in range(ZOOMS):
        found = sorted(found, reverse=True)[:PEAKS]
        places = {(s, min(1.0, max(0.0, t + step * (2 * float(u) - 1))))
                  for _, s, t in found for u in ALPHAS[::2]}  # fmt: skip
        found += [(along(segments[s], t), s, t) for s, t in places]
        step /= 20
    return max(found)[0]


def along(segment, t):
    loss, a, b = segment
    return loss((1 - t) * a + t * b)


def elder(losses, heights):
    """Bars (birth, death) by minimum: when two groups meet, the one with the higher bottom ends."""
    group = {m: m for m in losses}

    def bottom(m):
        return m if group[m] == m else bottom(group[m])

    bars = {m: (losses[m], math.inf) for m in losses}
    for (a, b), value in sorted(heights.items(), key=lambda item: item[1]):
        low, high = sorted((bottom(a), bottom(b)), key=losses.get)
        if low != high:
            group[high] = low
            bars[high] = (losses[high], value)
    return bars


def direct(losses, heights):
    """Algorithm 1: the lowest direct path to any lower minimum."""
    passes = {frozenset(pair): value for pair, value in heights.items()}
    lower = {m: [n for n in losses if losses[n] < losses[m]] for m in losses}
    return {
        m: (losses[m], min((passes[frozenset((m, n))] for n in lower[m]), default=math.inf))
        for m in losses
    }


def score(bars):
    """Half the length of the longest finite bar."""
    return max((d - b for b, d in bars.values() if d < math.inf), default=0.0) / 2


def main(run):
    config = json.loads(next((run / "run").glob("config-*.json")).read_text())["run_file"]
    loss = Loss(config["network"]["hidden"], training_set(config["data"].get("subset")))
    losses, heights = {}, {}
    for file in (run / "minima").iterdir():
        state = safetensors.torch.load_file(file)
        names = sorted(state, key=lambda n: (int(n.split(".")[0]), "bias" in n))
        point = torch.cat([state[name].double().flatten() for name in names])
        losses[file.name.split(".")[0]] = loss(point)
    for file in (run / "paths").iterdir():
        table = pq.read_table(file)
        ends = json.loads(table.schema.metadata[b"toscore.scalars"])
        rows = [row["values"] for row in table.to_pylist() if row["name"] == "points"]
        points = torch.tensor(rows, dtype=torch.float64)
        heights[ends["a"], ends["b"]] = height(loss, points)
    bars = {"elder": elder(losses, heights), "direct": direct(losses, heights)}
    result = {
        "losses": losses,
        "heights": {f"{a} {b}": value for (a, b), value in heights.items()},
        "bars": bars,
        "to_score": {name: score(found) for name, found in bars.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
