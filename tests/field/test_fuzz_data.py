"""Random data, networks and checkpoints: the command ends with exit code 0, 2 or 3, without a traceback."""

import argparse
import random
import sys
import types
from collections import OrderedDict

import numpy as np
import pandas
import pytest
import safetensors.torch
import scipy.sparse
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.helpers.command import toscore

# ruff: noqa: E501 — lists of forms are read along their lines

SMALL = "minima: {count: 2, epochs: 1}\npaths: {epochs: 1, points: 4, start: line}\nsaddles: {refine: off}\n"
DATA = "name: n\ndata: DATA\nnetwork: NETWORK\nloss: LOSS\n" + SMALL


class Stream(IterableDataset):
    def __init__(self, *arrays):
        self.arrays = arrays

    def __iter__(self):
        return iter(zip(*self.arrays, strict=False))


class Anything(nn.Module):
    """Takes whatever is numeric, and puts it out in some form."""

    def __init__(self, form, outputs, width):
        super().__init__()
        self.form, self.last = form, nn.Linear(width, outputs)

    def forward(self, *inputs, **others):
        parts = [x.flatten(1).float() for x in (*inputs, *others.values())]
        return self.form(self.last(torch.cat(parts, 1)))


def values_of(draw, count):
    """An array of `count` rows in one of many forms; most are fine."""
    shape = draw.choice([(), (1,), (3,), (3,), (3,), (2, 2), (1, 4, 4), (0,)])
    array = np.random.default_rng(draw.randrange(99)).normal(size=(count, *shape)) * 3
    forms = [
        lambda a: a, lambda a: a, lambda a: a.astype(np.float32), torch.tensor, torch.tensor,
        lambda a: torch.tensor(a).bfloat16(), lambda a: torch.tensor(a).half(),
        lambda a: torch.tensor(a).requires_grad_(), lambda a: a.tolist(), lambda a: list(torch.tensor(a)),
        lambda a: a.astype(">f8"), lambda a: a[::-1], lambda a: a.astype(complex), lambda a: a.astype(int),
        lambda a: a.astype(np.uint16), lambda a: a > 0, lambda a: a.astype(str), lambda a: a.astype(object),
        lambda a: np.where(a > 4, np.nan, a), lambda a: np.ma.masked_greater(a, 4),
        lambda a: pandas.Series(list(a)), lambda a: pandas.DataFrame(a.reshape(count, -1)),
        lambda a: torch.tensor(a).to_sparse(), lambda a: scipy.sparse.csr_array(a.reshape(count, -1)),
        lambda a: {"a": a, "b": a > 0}, lambda a: (torch.tensor(a), torch.tensor(a).long()),
        lambda a: [r[:1] if i % 2 and r.ndim else r for i, r in enumerate(a)], memoryview,
        lambda a: torch.tensor(a, device="meta"), lambda a: range(count), lambda a: "text", lambda a: None,
    ]  # fmt: skip
    return draw.choice(forms)(array)


def targets_of(draw, count):
    if draw.random() < 0.2:
        return values_of(draw, count)
    classes = np.arange(count) % draw.choice([2, 3, 5])
    forms = [
        lambda y: y, lambda y: y, torch.tensor, lambda y: y.tolist(), lambda y: y + 1, lambda y: y * 2 - 1,
        lambda y: y * 70_000, lambda y: y.astype(float), lambda y: y[:, None], lambda y: np.eye(5)[y],
        lambda y: np.eye(5, dtype=int)[y], lambda y: np.array(list("abcde"))[y], lambda y: y - 100,
        lambda y: np.where(y == 1, -100, y), lambda y: torch.tensor(y).to(torch.uint8), lambda y: y > 0,
        lambda y: np.stack([y, y], 1), lambda y: pandas.Series(y, dtype="category"), lambda y: y / 3,
        lambda y: pandas.Series([None, *y[1:]]), lambda y: y.astype(">i2"), lambda y: -y * 10**12,
    ]  # fmt: skip
    return draw.choice(forms)(classes)


def returned_by(draw):
    """What `load()` returns."""
    count = draw.choice([1, 2, 8, 30, 30, 30])
    x, y = values_of(draw, count), targets_of(draw, draw.choice([count] * 9 + [count + 1]))
    same = draw.random() < 0.7
    test = (x, y) if same else (values_of(draw, 4), targets_of(draw, 4))
    forms = [
        lambda: (x, y), lambda: (x, y, *test), lambda: ((x, y), test), lambda: ((x, y), test, test),
        lambda: {"train": (x, y), "test": test}, lambda: {"x_train": x, "y_train": y}, lambda: {"x": x, "y": y},
        lambda: {"input_ids": x, "mask": x, "labels": y}, lambda: x, lambda: [(x, y)], lambda: (x, y, x),
        lambda: list(zip(x, y, strict=False)), lambda: zip(x, y, strict=False), lambda: Stream(x, y),
        lambda: (Stream(x, y), Stream(*test)), lambda: DataLoader(Stream(x, y), batch_size=4),
        lambda: TensorDataset(torch.as_tensor(x), torch.as_tensor(y)),
        lambda: DataLoader(TensorDataset(torch.as_tensor(x), torch.as_tensor(y)), 7, shuffle=True),
        lambda: pandas.DataFrame({"a": list(x), "y": list(y)}), lambda: [{"x": a, "y": b} for a, b in zip(x, y, strict=False)],
    ]  # fmt: skip
    return draw.choice(forms)


def network_of(draw):
    outputs, width = draw.choice([1, 2, 3, 5, 5, 7]), draw.choice([1, 3, 3, 3, 4, 6])
    form = draw.choice([
        lambda y: y, lambda y: y, lambda y: y[:, 0], lambda y: {"logits": y}, lambda y: {"a": y, "b": y},
        lambda y: (y, None), lambda y: (y.mean(), y), lambda y: y[:, None], lambda y: y.detach(), lambda y: None,
        lambda y: y.numpy(), lambda y: {}["x"], lambda y: y.to_sparse(), lambda y: y > 0, lambda y: y * torch.rand(()),
    ])  # fmt: skip
    return lambda: Anything(form, outputs, width)


LOSSES = ["cross_entropy", "mse", "bce", "nll", "mae", "{name: cross_entropy, ignore_index: -100}"]


def ended(said, seed):
    """The command ended as it should: complete, with failed tasks (3), or with one sentence (2)."""
    assert said.code in (0, 2, 3), (seed, said.err)
    assert "Traceback" not in said.err, (seed, said.err)
    if said.code == 2:
        sentence = said.err.splitlines()[-1]
        assert sentence.startswith("toscore: ") and len(sentence) < 600, (seed, said.err)


def check_data(folder, monkeypatch, seeds):
    monkeypatch.chdir(folder)
    module = types.ModuleType("fuzzed")
    monkeypatch.setitem(sys.modules, "fuzzed", module)
    codes = {0: 0, 2: 0}
    for seed in seeds:
        draw = random.Random(seed)
        module.load, module.build = returned_by(draw), network_of(draw)
        labels = ", labels: map" if draw.random() < 0.3 else ""
        own = draw.random() < 0.6
        text = DATA.replace("DATA", f'{{name: "fuzzed:load"{labels}}}').replace(
            "NETWORK", '"fuzzed:build"' if own else "{name: fc, hidden: [2]}"
        )
        (folder / "run.yaml").write_text(text.replace("LOSS", draw.choice(LOSSES)))
        said = toscore("plan", "run.yaml")
        ended(said, seed)
        codes[said.code] += 1
        assert [path.name for path in folder.iterdir()] == ["run.yaml"]
    return codes


@pytest.mark.filterwarnings("ignore")
def test_random_data(tmp_path, monkeypatch):
    """Forty results of `load()`, networks and losses: a plan, or one sentence; nothing is written."""
    codes = check_data(tmp_path, monkeypatch, range(40))
    assert min(codes.values()) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_much_random_data(tmp_path, monkeypatch):
    """Five hundred of them."""
    check_data(tmp_path, monkeypatch, range(500))


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.BatchNorm1d(2), nn.Linear(2, 10))


def state_of(draw):
    """A state dict of the network after random changes."""
    torch.manual_seed(draw.randrange(10**6))
    state = OrderedDict(plain().state_dict())
    for _ in range(draw.choice([0, 0, 1, 1, 2])):
        name = draw.choice(list(state) or ["none"])
        value = state.get(name, torch.zeros(2))
        change = draw.choice([
            lambda n, v: {n: v.half()}, lambda n, v: {n: v.double()}, lambda n, v: {n: v.bfloat16()},
            lambda n, v: {n: v * float("nan")}, lambda n, v: {n: v[None]}, lambda n, v: {n: v.long()},
            lambda n, v: {"x" + n: v}, lambda n, v: {n: 3}, lambda n, v: {n: v.flatten()[:1]},
            lambda n, v: {n: v.to_sparse()}, lambda n, v: {n: v * 1e30}, lambda n, v: {3: v},
            lambda n, v: {n: nn.Parameter(v.float())}, lambda n, v: {n: v.to("meta")}, lambda n, v: {n: [v]},
            lambda n, v: {n: torch.zeros(0)}, lambda n, v: {n: v.to(torch.complex64)}, lambda n, v: {},
        ])  # fmt: skip
        state.pop(name, None)
        state.update(change(name, value))
    return state


def saved(draw, file):
    """Write a file that is a checkpoint, nearly one, or none."""
    state = state_of(draw)
    prefix = draw.choice(["", "", "module.", "model.", "_orig_mod.module.", "x."])
    state = OrderedDict((f"{prefix}{name}", value) for name, value in state.items())
    wrapped = draw.choice([
        lambda s: s, lambda s: s, lambda s: s, lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "ema": s}, lambda s: {"args": argparse.Namespace(x=1), "net": s},
        lambda s: [s], lambda s: {"weights": {"a": {"b": s}}}, lambda s: plain(), lambda s: {"state_dict": None},
        lambda s: list(s.values()), lambda s: {"optimizer": s}, lambda s: (s, 3), lambda s: 3,
    ])(state)  # fmt: skip
    kind = draw.random()
    try:
        if kind < 0.3:
            safetensors.torch.save_file({str(k): v.contiguous() for k, v in state.items()}, file)
        else:
            torch.save(wrapped, file, _use_new_zipfile_serialization=kind < 0.9)
    except (AttributeError, RuntimeError, ValueError, NotImplementedError):
        file.write_bytes(b"{}")
    content = bytearray(file.read_bytes())
    if draw.random() < 0.2 and content:
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(
            content[: draw.choice([len(content), len(content), len(content) // 2, 9, 0])]
        )


def check_checkpoints(folder, monkeypatch, seeds):
    monkeypatch.chdir(folder)
    module = types.ModuleType("fuzzed")
    module.build = plain
    monkeypatch.setitem(sys.modules, "fuzzed", module)
    torch.manual_seed(0)
    torch.save(plain().state_dict(), folder / "good.pt")
    codes = {0: 0, 2: 0, 3: 0}
    for seed in seeds:
        draw = random.Random(seed)
        name = f"a{seed}.{draw.choice(['pt', 'pth', 'safetensors', 'ckpt', 'bin'])}"
        saved(draw, folder / name)
        (folder / "run.yaml").write_text(
            f'name: n{seed}\ndata: {{name: digits, subset: 40}}\nnetwork: "fuzzed:build"\n'
            f"minima: {{from: [good.pt, {name}]}}\npaths: {{epochs: 1, points: 4, start: line}}\nsaddles: "
            "{refine: off}\n"
        )
        said = toscore("run", "run.yaml", "--in-process", "--quiet")
        ended(said, seed)
        codes[said.code] += 1
    return codes


@pytest.mark.filterwarnings("ignore")
def test_random_checkpoints(tmp_path, monkeypatch):
    """Twelve files that are checkpoints or nearly so: a run, or one sentence."""
    codes = check_checkpoints(tmp_path, monkeypatch, range(12))
    assert codes[0] and codes[2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(1200)
def test_many_random_checkpoints(tmp_path, monkeypatch):
    """Five hundred of them."""
    check_checkpoints(tmp_path, monkeypatch, range(500))
