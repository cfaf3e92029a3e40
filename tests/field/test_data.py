"""What `load()` may return: the table of `docs/howto/own-data.md`, and what is refused in one sentence."""

import sys
import types
from collections import namedtuple

import numpy as np
import pandas
import pytest
import scipy.sparse
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from workers.problems.data_sets import load_dataset, sizes
from workers.problems.reproducibility import load_twice
from workers.problems.user_code import BadReference
from workers.tasks.specs import DataSpec

X, Y = np.arange(24.0).reshape(8, 3), np.arange(8) % 3
TRAIN, TEST = (X[:6], Y[:6]), (X[6:], Y[6:])
TENSORS = torch.from_numpy(X), torch.from_numpy(Y)


class Examples(Dataset):
    """Examples as `(input, target)`."""

    def __init__(self, rows, make=lambda x, y: (torch.from_numpy(x), int(y))):
        self.rows, self.make = rows, make

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return self.make(X[row], Y[row])


class Stream(IterableDataset):
    """The same examples, one after the other."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter((X[row], Y[row]) for row in self.rows)


class Endless(IterableDataset):
    def __iter__(self):
        while True:
            yield X[0], Y[0]


class Rows:
    """Rows by number, as Hugging Face's data sets have them: mappings of Python values."""

    column_names = ("features", "label")

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"features": X[self.rows[index]].tolist(), "label": int(Y[self.rows[index]])}


class DictOfParts(dict):
    """As Hugging Face's DatasetDict."""


Pair = namedtuple("Pair", "x y")
FIRST, LAST = range(6), range(6, 8)


def memory_mapped(folder):
    np.save(folder / "x.npy", X.astype(np.float32))
    mapped = np.load(folder / "x.npy", mmap_mode="r")
    return mapped[:6], Y[:6], mapped[6:], Y[6:]


def archive(folder):
    np.savez(folder / "all.npz", x_train=X[:6], y_train=Y[:6], x_test=X[6:], y_test=Y[6:])
    return np.load(folder / "all.npz")


def sampled(sampler):
    return DataLoader(TensorDataset(*TENSORS), batch_size=4, sampler=sampler)


WORK = {
    "arrays": lambda _: (*TRAIN, *TEST),
    "two pairs": lambda _: (TRAIN, TEST),
    "lists": lambda _: [a.tolist() for a in (*TRAIN, *TEST)],
    "lists of pairs": lambda _: ([a.tolist() for a in TRAIN], [a.tolist() for a in TEST]),
    "lists of tensors": lambda _: (list(TENSORS[0][:6]), Y[:6], list(TENSORS[0][6:]), Y[6:]),
    "named tuples": lambda _: (Pair(*TRAIN), Pair(*TEST)),
    "three pairs": lambda _: (TRAIN, (X[:2], Y[:2]), TEST),
    "six arrays": lambda _: (*TRAIN, X[:2], Y[:2], *TEST),
    "keys": lambda _: {"train": TRAIN, "test": TEST},
    "keys with validation": lambda _: DictOfParts(train=TRAIN, validation=(X[:1], Y[:1]), test=TEST),
    "validation for a test set": lambda _: {"train": TRAIN, "val": TEST},
    "flat keys": lambda _: {"X_train": X[:6], "y_train": Y[:6], "X_test": X[6:], "y_test": Y[6:]},
    "our keys": lambda _: dict(
        zip(("train_inputs", "train_targets", "test_inputs", "test_targets"), (*TRAIN, *TEST), strict=True)
    ),
    "npz": archive,
    "memory-mapped": memory_mapped,
    "tensor data sets": lambda _: tuple(
        Subset(TensorDataset(*TENSORS), rows) for rows in (FIRST, LAST)
    ),
    "tensor data set": lambda _: tuple(
        TensorDataset(*(t[list(rows)] for t in TENSORS)) for rows in (FIRST, LAST)
    ),
    "data sets": lambda _: (Examples(FIRST), Examples(LAST)),
    "data sets of mappings": lambda _: tuple(
        Examples(rows, lambda x, y: {"image": x, "label": y}) for rows in (FIRST, LAST)
    ),
    "lists of examples": lambda _: tuple([(X[i], Y[i]) for i in rows] for rows in (FIRST, LAST)),
    "iterable data sets": lambda _: (Stream(FIRST), Stream(LAST)),
    "loaders": lambda _: tuple(DataLoader(Examples(rows), batch_size=4) for rows in (FIRST, LAST)),
    "shuffled loaders": lambda _: tuple(
        DataLoader(Examples(rows), batch_size=4, shuffle=True, drop_last=True) for rows in (FIRST, LAST)
    ),
    "loaders of streams": lambda _: tuple(DataLoader(Stream(r), batch_size=4) for r in (FIRST, LAST)),
    "sampled loaders": lambda _: (
        sampled(SubsetRandomSampler([3, 1, 0, 5, 4, 2])),
        sampled(SubsetRandomSampler([7, 6])),
    ),
    "rows by number": lambda _: {"train": Rows(FIRST), "test": Rows(LAST)},
    "lists of mappings": lambda _: {
        "train": [Rows(FIRST)[i] for i in range(6)],
        "test": [Rows(LAST)[i] for i in range(2)],
    },
    "pandas": lambda _: tuple(
        make(part) for rows in (FIRST, LAST) for make, part in (
            (pandas.DataFrame, X[list(rows)]), (pandas.Series, Y[list(rows)])
        )
    ),
    "tables": lambda _: tuple(
        pandas.DataFrame(X[list(rows)], columns=list("abc")).assign(label=Y[list(rows)])
        for rows in (FIRST, LAST)
    ),
    "pairs of tables": lambda _: tuple(
        (pandas.DataFrame(X[list(rows)]), pandas.DataFrame({"k": Y[list(rows)]})["k"])
        for rows in (FIRST, LAST)
    ),
    "columns of arrays": lambda _: tuple(
        pandas.DataFrame({"x": list(X[list(rows)]), "y": Y[list(rows)]}) [c]
        for rows in (FIRST, LAST) for c in ("x", "y")
    ),
    "categories": lambda _: (
        X[:6], pandas.Series(Y[:6], dtype="Int64"), X[6:], pandas.Series(Y[6:], dtype="category")
    ),
    "requires_grad": lambda _: tuple(
        t.requires_grad_() if t.is_floating_point() else t
        for t in map(torch.from_numpy, (*(a.copy() for a in TRAIN), *(a.copy() for a in TEST)))
    ),
    "bfloat16": lambda _: (torch.tensor(X[:6]).bfloat16(), Y[:6], torch.tensor(X[6:]).bfloat16(), Y[6:]),
    "half": lambda _: (X[:6].astype(np.float16), Y[:6], X[6:].astype(np.float16), Y[6:]),
    "long double": lambda _: (X[:6].astype(np.longdouble), Y[:6], X[6:].astype(np.longdouble), Y[6:]),
    "uint16": lambda _: (X[:6], Y[:6].astype(np.uint16), X[6:], Y[6:].astype(np.uint16)),
    "big-endian": lambda _: tuple(
        a.astype(">f8" if a.dtype.kind == "f" else ">i4") for a in (*TRAIN, *TEST)
    ),
    "negative strides": lambda _: (X[::-1][2:][::-1], Y[:6], X[::-1][:2][::-1], Y[6:]),
    "sparse": lambda _: (torch.tensor(X[:6]).to_sparse(), Y[:6], torch.tensor(X[6:]).to_sparse_csr(), Y[6:]),
    "scipy sparse": lambda _: (scipy.sparse.csr_array(X[:6]), Y[:6], scipy.sparse.coo_array(X[6:]), Y[6:]),
}  # fmt: skip


@pytest.fixture
def users(monkeypatch):
    """A module whose `load` returns a value; the spec that names it."""
    module = types.ModuleType("fielddata")
    monkeypatch.setitem(sys.modules, "fielddata", module)

    def make(returned, **options):
        module.load = lambda: returned() if callable(returned) else returned
        return DataSpec.parse({"name": "fielddata:load", **options})

    return make


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", WORK)
def test_kinds_of_data(users, tmp_path, kind):
    """Each kind gives the same numbers in the same order, twice, whatever library holds them."""
    data = load_twice(users(lambda: WORK[kind](tmp_path)))
    assert data.train_inputs.double().tolist() == TRAIN[0].tolist()
    assert data.test_inputs.double().tolist() == TEST[0].tolist()
    assert data.train_targets.tolist() == TRAIN[1].tolist()
    assert data.test_targets.tolist() == TEST[1].tolist()
    assert data.train_targets.dtype is torch.int64 and not data.train_inputs.requires_grad


@pytest.mark.parametrize(
    ("returned", "note"),
    [
        (lambda: TRAIN, "no test set"),
        (lambda: {"data": X[:6], "target": Y[:6]}, "no test set"),
        (lambda: Examples(FIRST), "no test set"),
        (lambda: [DataLoader(Examples(FIRST), batch_size=2)], "no test set"),
        (lambda: pandas.DataFrame(X[:6]).assign(y=Y[:6]), "no test set"),
        (lambda: (TRAIN, TEST, TEST), "the second of three parts, validation, is not used"),
        (lambda: {"train": TRAIN, "valid": TEST}, "the validation part is taken as the test set"),
    ],
)
def test_parts_that_are_missing_or_left_out(users, returned, note):
    """Data without a test set, or with validation besides, are taken; a note says which are used."""
    data = load_dataset(users(returned))
    assert data.train_targets.tolist() == TRAIN[1].tolist()
    assert any(note in said for said in data.notes)
    assert len(data.test_inputs) == (0 if "no test" in note else 2)


def leaves():
    sys.exit(1)


DATES = pandas.DataFrame({"x": X[:, 0], "when": pandas.Timestamp("2020-01-01"), "label": Y})


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (leaves, "fails with SystemExit: 1"),
        (lambda: DATES, "a column of dates or durations: leave it out"),
        (lambda: (torch.nested.nested_tensor([torch.ones(3)] * 8), Y), "returns a nested tensor"),
    ],
    ids=["an exit", "dates", "nested"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_what_ended_the_command_without_a_sentence(users, load, says):
    """Functions that leave the program, tables with dates, nested tensors: refused."""
    with pytest.raises(BadReference, match=says):
        load_dataset(users(load))


def test_numbers_too_large_for_the_dtype(users):
    """They became infinite, and the network was said to draw random numbers; float64 takes them."""
    data = load_dataset(users(lambda: (X * 1e300, Y)))
    with pytest.raises(BadReference, match=r"train_inputs with numbers up to 2.3e\+301, too large"):
        data.to(torch.device("cpu"), torch.float32)
    assert data.to(torch.device("cpu"), torch.float64).train_inputs.isfinite().all()


def test_a_memory_mapped_file_stays_on_the_disk(users, tmp_path):
    """Data larger than the memory: the tensor shares the pages of the file."""
    mapped = memory_mapped(tmp_path)
    data = load_dataset(users(lambda: mapped))
    assert data.train_inputs.data_ptr() == mapped[0].ctypes.data


REFUSED = {
    "one number": (3, "returns int, which is no data"),
    "nothing": (None, "returns NoneType"),
    "a generator": (lambda: (x for x in X), "returns generator, which is no data"),
    "five values": (lambda: (*TRAIN, *TEST, 5), "tuple of 5 values"),
    "unknown keys": ({"left": X, "right": Y}, "the keys left, right"),
    "a table without targets": (lambda: pandas.DataFrame(X), "DataFrame, which is no data"),
    "ragged": (lambda: ([[1.0], [1.0, 2.0]], [0, 1], X[:1, :1], Y[:1]), "different lengths"),
    "a scalar": (lambda: (X[:6], torch.tensor(3), *TEST), "train_targets as a single number"),
    "text": (lambda: (X[:2], np.array(["a", "b"]), X[:2], np.array(["a", "b"])), "data.labels: map"),
    "words in objects": (lambda: (X[:2], pandas.Series(["a", "b"]), X[:2], ["a", "b"]), "data.labels: map"),
    "dates": (lambda: (X[:2], np.array(["2020-01-01"] * 2, "M8[D]"), *TEST), "dates or durations"),
    "missing values": (lambda: (X[:2], np.array([1, None]), *TEST), "no numbers (missing ones?)"),
    "NaN": (lambda: (np.where(X == 7, np.nan, X), Y, *TEST), "1 rows of 8, the first is row 2"),
    "infinite": (lambda: (*TRAIN, np.where(X == 7, np.inf, X), Y), "test_inputs with NaN or infinite"),
    "counts": (lambda: (X[:6], Y[:5], *TEST), "6 train inputs and 5 train targets"),
    "no examples": (lambda: (X[:0], Y[:0], *TEST), "0 train inputs"),
    "axes": (lambda: (*TRAIN, X[6:].reshape(2, 3, 1), Y[6:]), "as many axes in both"),
    "kinds": (lambda: (*TRAIN, X[6:], Y[6:] + 0.5), "the same kind of numbers"),
    "examples of two shapes": (
        lambda: (Examples(FIRST, lambda x, y: (x[: 1 + y], y)), TEST), "different shapes ((1,), (2,), (3,))"
    ),
    "examples without targets": (lambda: TensorDataset(TENSORS[0]), "one value for each example"),
    "a data set that fails": (lambda: Examples(range(99)), "fails with IndexError"),
    "an empty data set": (lambda: Examples([]), "without any example"),
    "large unsigned": (lambda: (np.full((6, 1), 2**63, np.uint64), Y[:6], *TEST), "above 2^63 - 1"),
    "inputs of other kinds": (lambda: ((X, Y, ), Y, ({"a": X}), Y), "return the same inputs in both"),
    "rows of several inputs": (lambda: ((X, Y[:3]), Y, (X, Y), Y), "one row for each example"),
    "a large id beside floats": (lambda: ((X, Y + 2**25), Y, (X, Y), Y), "16777216 at most"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_that_are_refused(users, kind):
    """One sentence says what the data have and what to return."""
    returned, says = REFUSED[kind]
    with pytest.raises(BadReference) as refused:
        load_dataset(users(returned))
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_stream_without_end(users, monkeypatch):
    """An iterator is read up to a bound, and then refused."""
    monkeypatch.setattr("workers.problems.user_examples.MOST_EXAMPLES", 50)
    for endless in (Endless(), DataLoader(Endless(), batch_size=5)):
        with pytest.raises(BadReference, match="does not end after 50 examples"):
            load_dataset(users(lambda endless=endless: (endless, TEST)))


LABELS = {
    "from 1": (Y + 1, "the labels 1, 2, 3 are read as the classes 0 to 2"),
    "gaps": (Y * 100_000, "the labels 0, 100000, 200000 are read"),
    "text": (np.array(["ant", "bee", "cat"])[Y], "the labels ant, bee, cat"),
    "objects": (pandas.Series(list("abc")).iloc[Y], "the labels a, b, c"),
    "floats": (Y.astype(float), "the labels 0.0, 1.0, 2.0"),
    "column": (Y[:, None] - 1, "the labels -1, 0, 1"),
    "one-hot": (np.eye(3)[Y], "with a single 1"),
    "one-hot integers": (np.eye(3, dtype=int)[Y], "with a single 1"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_mapped_on_request(users, kind):
    """`labels: map` numbers them in sorted order, and a note says how."""
    labels, note = LABELS[kind]
    labels = labels.to_numpy() if hasattr(labels, "to_numpy") else labels
    data = load_dataset(users(lambda: (X[:6], labels[:6], X[6:], labels[6:]), labels="map"))
    assert data.train_targets.tolist() == TRAIN[1].tolist()
    assert data.test_targets.tolist() == TEST[1].tolist()
    assert any(note in said for said in data.notes)
    assert sizes(users(lambda: (X, labels), labels="map")).classes == 3


def test_signs_as_labels_and_targets_that_do_not_count(users):
    """±1 become 0 and 1; −100, PyTorch's number of ignored targets, stays; noise keeps the classes."""
    data = load_dataset(users(lambda: (X[:4], [-1, 1, -100, 1]), labels="map"))
    assert data.train_targets.tolist() == [0, 1, -100, 1]
    noisy = load_dataset(users(lambda: (X, Y * 50), labels="map", label_noise=1.0))
    assert set(noisy.train_targets.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("labels", "value", "says"),
    [
        (Y + 0.5, "map", "targets with fractions (0.5)"),
        (
            np.array([0, None, "b"], object)[Y],
            "map",
            "neither text nor numbers, the first in row 0",
        ),
        (np.where(Y == 1, np.nan, 0.0), "map", "the first in row 1"),
        (Y, "sort", "data.labels is 'sort'; it must be map"),
    ],
)
def test_labels_that_cannot_be_mapped(users, labels, value, says):
    """One sentence, with the row where there is one."""
    with pytest.raises(BadReference) as refused:
        load_dataset(users(lambda: (X, labels), labels=value))
    assert says in str(refused.value)
