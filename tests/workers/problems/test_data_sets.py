"""Data sets, from files that the tests write in each one's own format; no network is needed."""

import gzip
import hashlib
import pickle
import struct
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest
import scipy.io
import torch

from workers.problems.data_sets import load_dataset, sizes
from workers.problems.torchvision_import import datasets
from workers.problems.user_code import BadReference
from workers.tasks.specs import DataSpec

RNG = np.random.default_rng(0)


def spec(name, **options):
    return DataSpec.parse({"name": name, **options})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty data folder on a machine without a network."""

    def offline(*_args, **_kwargs):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setenv("TOSCORE_DATA", str(tmp_path))
    return tmp_path


def images(count, *shape):
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count):
    """Every class occurs."""
    return (np.arange(count) % 10).astype(np.uint8)


def normalised(train, test):
    """[0, 1], less the mean and over the deviation of the training part, per channel; in float64."""
    train, test = train.astype(np.float64) / 255, test.astype(np.float64) / 255
    axes = (0, 2, 3)
    mean, deviation = train.mean(axes, keepdims=True), train.std(axes, ddof=1, keepdims=True)
    return (train - mean) / deviation, (test - mean) / deviation


def check(data, train, train_labels, test, test_labels):
    """`data` holds these channels-first images and labels, normalised."""
    for found, expected in zip(
        (data.train_inputs, data.test_inputs), normalised(train, test), strict=True
    ):
        np.testing.assert_allclose(found.numpy(), expected, atol=2e-6)
    assert data.train_targets.tolist() == train_labels.tolist()
    assert data.test_targets.tolist() == test_labels.tolist()
    assert (data.train_inputs.dtype, data.train_targets.dtype) == (torch.float32, torch.int64)
    assert data.classes == 10


def write_idx(file, array, *, packed):
    """The format of MNIST: two zero bytes, 8 for unsigned bytes, the rank, big-endian sizes, bytes."""
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    file.parent.mkdir(parents=True, exist_ok=True)
    if packed:
        file.with_name(file.name + ".gz").write_bytes(gzip.compress(content))
    file.write_bytes(content)


@pytest.mark.parametrize(("name", "own"), [("mnist", "MNIST"), ("fmnist", "FashionMNIST")])
def test_idx_files(folder, name, own):
    """MNIST and FashionMNIST are read from idx files, 28x28, one channel."""
    parts = {"train": (images(30, 28, 28), labels(30)), "t10k": (images(12, 28, 28), labels(12))}
    for part, (pixels, classes) in parts.items():
        raw = folder / own / "raw"
        write_idx(raw / f"{part}-images-idx3-ubyte", pixels, packed=False)
        write_idx(raw / f"{part}-labels-idx1-ubyte", classes, packed=False)
    (train, train_labels), (test, test_labels) = parts.values()
    data = load_dataset(spec(name))
    check(data, train[:, None], train_labels, test[:, None], test_labels)
    assert data.input_shape == (1, 28, 28)


def md5(file):
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def write_cifar(folder, monkeypatch):
    """Six small batches, pickled as CIFAR10's are, and torchvision told their checksums.

    The check itself stays on: only the list of known sums is that of these files.
    """
    base = folder / "cifar-10-batches-py"
    base.mkdir()
    parts = {}
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        pixels, classes = images(10, 3, 32, 32), labels(10)
        content = {"data": pixels.reshape(10, -1), "labels": classes.tolist()}
        (base / name).write_bytes(pickle.dumps(content))
        parts[name] = (pixels, classes)
    names = {"label_names": [str(i) for i in range(10)]}
    (base / "batches.meta").write_bytes(pickle.dumps(names))
    sums = {file.name: md5(file) for file in base.iterdir()}
    batches = [[name, sums[name]] for name in parts]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", batches[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", batches[5:])
    meta = {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return base, parts


def test_cifar10_batches(folder, monkeypatch):
    """CIFAR10 is read from its pickled batches: rows of 3 x 1024 bytes, channel by channel."""
    _, parts = write_cifar(folder, monkeypatch)
    pixels, classes = (np.concatenate(rows) for rows in zip(*parts.values(), strict=True))
    data = load_dataset(spec("cifar10"))
    check(data, pixels[:50], classes[:50], pixels[50:], classes[50:])


def test_a_changed_cifar10_batch_is_refused(folder, monkeypatch):
    """One byte that differs from the checksum, and the files do not count as CIFAR10."""
    base, _ = write_cifar(folder, monkeypatch)
    batch = bytearray((base / "data_batch_3").read_bytes())
    batch[len(batch) // 2] ^= 1
    (base / "data_batch_3").write_bytes(bytes(batch))
    with pytest.raises(BadReference, match=r"data\.name is 'cifar10'"):
        load_dataset(spec("cifar10"))


def write_svhn(folder, monkeypatch):
    """Two .mat files as SVHN's: X [32, 32, 3, n], y [n, 1] with 10 for the digit 0."""
    parts, split_list = {}, {}
    for part, count in (("train", 20), ("test", 10)):
        pixels, classes = images(count, 3, 32, 32), labels(count)
        file = folder / f"{part}_32x32.mat"
        written = np.where(classes == 0, 10, classes)[:, None]
        scipy.io.savemat(file, {"X": pixels.transpose(2, 3, 1, 0), "y": written})
        parts[part] = (pixels, classes)
        split_list[part] = ["http://localhost/", file.name, md5(file)]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    return parts


def test_svhn_mat_files(folder, monkeypatch):
    """SVHN is read from its .mat files; the label 10 is the digit 0."""
    (train, train_labels), (test, test_labels) = write_svhn(folder, monkeypatch).values()
    check(load_dataset(spec("svhn")), train, train_labels, test, test_labels)


def test_a_changed_svhn_file_is_refused(folder, monkeypatch):
    """A file whose checksum differs does not count as SVHN."""
    write_svhn(folder, monkeypatch)
    file = folder / "test_32x32.mat"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(BadReference, match=r"data\.name is 'svhn'"):
        load_dataset(spec("svhn"))


@pytest.mark.parametrize("name", ["mnist", "fmnist", "cifar10", "svhn"])
def test_offline_and_not_there(folder, name):
    """One sentence says what is missing, why it was not downloaded, and where to put it."""
    with pytest.raises(BadReference) as refused:
        load_dataset(spec(name))
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert name in sentence and str(folder) in sentence and "TOSCORE_DATA" in sentence


@pytest.mark.parametrize(
    ("name", "train", "test", "shape", "counts"),
    [
        ("mnist5k", 4000, 1000, (1, 28, 28), [500] * 10),
        ("digits", 1437, 360, (1, 8, 8), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]),
    ],
)
def test_shipped_images(name, train, test, shape, counts):
    """The images that come in packages, with as many of each digit as their authors say."""
    data = load_dataset(spec(name))
    assert (len(data.train_inputs), len(data.test_inputs)) == (train, test)
    assert data.input_shape == shape and data.classes == 10
    every = torch.cat([data.train_targets, data.test_targets])
    assert torch.bincount(every).tolist() == counts
    assert float(data.train_inputs.mean()) == pytest.approx(0, abs=1e-5)
    assert float(data.train_inputs.std()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "held_out"),
    [
        ("mnist5k", "11604628ddbd879f"),
        ("digits", "8c6ebada182af716"),
    ],
)
def test_the_split_is_fixed(name, held_out):
    """The held-out images are the same on every machine: their labels, in order, are pinned."""
    targets = load_dataset(spec(name)).test_targets
    assert hashlib.sha256(bytes(targets.tolist())).hexdigest()[:16] == held_out


@pytest.mark.parametrize("given", [spec("mnist5k"), spec("digits", subset=50), spec("text")])
def test_sizes_without_loading(given):
    """What the table says of a data set is what loading it shows."""
    data = load_dataset(given)
    found = sizes(given)
    assert (found.train, found.test) == (len(data.train_inputs), len(data.test_inputs))
    assert (found.input_shape, found.classes) == (data.input_shape, data.classes)


def test_subset():
    """`subset: n` keeps n training examples, the same each time, nested, and no test example less."""
    whole, some, more = (load_dataset(spec("digits", subset=n)) for n in (1437, 50, 80))
    assert len(some.train_inputs) == len(some.train_targets) == 50
    assert torch.equal(more.train_inputs[:50], some.train_inputs)
    assert torch.equal(some.test_inputs, whole.test_inputs)
    rows = {tuple(row.flatten().tolist()) for row in whole.train_inputs}
    assert all(tuple(row.flatten().tolist()) in rows for row in some.train_inputs)


def test_label_noise():
    """`label_noise: f` redraws a fraction f of the training labels, and no test label."""
    clean, noisy = load_dataset(spec("digits")), load_dataset(spec("digits", label_noise=0.5))
    changed = (clean.train_targets != noisy.train_targets).double().mean()
    # A redrawn label is the old one in a tenth of the cases: 0.45, five deviations either way.
    assert float(changed) == pytest.approx(0.45, abs=5 * (0.45 * 0.1 / 1437) ** 0.5)
    assert torch.equal(clean.test_targets, noisy.test_targets)
    assert torch.equal(clean.train_inputs, noisy.train_inputs)
    assert clean.fingerprint != noisy.fingerprint


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"subset": 0}, "data.subset is 0; it must be a number of training examples, 1 to 1437"),
        ({"subset": 1438}, "1 to 1437"),
        ({"subset": 1.5}, "data.subset is 1.5"),
        ({"subset": True}, "data.subset is True"),
        ({"label_noise": 1.5}, "data.label_noise is 1.5; it must be a fraction, 0 to 1"),
        ({"label_noise": "half"}, "data.label_noise is 'half'"),
    ],
)
def test_impossible_options(options, names):
    """An option that cannot be is refused by its key, its value and what is allowed."""
    with pytest.raises(BadReference) as refused:
        load_dataset(spec("digits", **options))
    assert names in str(refused.value)


@pytest.fixture
def users_module(tmp_path, monkeypatch):
    """A module `userdata` that lies where the command is called."""

    def write(returned):
        text = f"import numpy as np, torch\ndef load(n=4):\n    return {returned}\n"
        (tmp_path / "userdata.py").write_text(text)

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "userdata", raising=False)
    return write


def test_a_users_data(users_module):
    """module:callable returns arrays or tensors; they are taken as they are, with its own options."""
    users_module("np.ones((n, 3)), np.arange(n), torch.zeros(2, 3), torch.tensor([0, 5])")
    data = load_dataset(spec("userdata:load", n=3))
    assert data.train_inputs.tolist() == [[1.0] * 3] * 3
    assert data.train_inputs.dtype == torch.float64
    assert (data.train_targets.tolist(), sizes(spec("userdata:load", n=3)).classes) == (
        [0, 1, 2],
        6,
    )


@pytest.mark.parametrize(
    ("returned", "names"),
    [
        ("3", "return train_inputs, train_targets, test_inputs, test_targets"),
        ("np.ones((4, 3)), np.arange(3), np.ones((1, 3)), np.arange(1)", "4 train inputs and 3"),
        ("np.ones((4, 3)), np.arange(4), np.ones((0, 3)), np.arange(0)", "0 test inputs"),
        ("np.ones((4, 3)), np.arange(4), np.ones((1, 3)), np.ones(1)", "the same kind of numbers"),
        ("np.ones((4, 3)), np.arange(4), np.ones((1, 2, 1)), np.arange(1)", "as many axes in both"),
        ("np.array([1, np.nan]), np.arange(2), np.ones(1), np.arange(1)", "the first is row 1"),
        ("no_such_name", "fails with"),
    ],
)
def test_a_users_data_that_is_none(users_module, returned, names):
    """What is no data is refused in a sentence that says what to return."""
    users_module(returned)
    with pytest.raises(BadReference, match=r"userdata:load") as refused:
        load_dataset(spec("userdata:load"))
    assert names in str(refused.value)


def test_subset_and_noise_of_a_users_data(users_module):
    """As the documents say they work for a user's data as for the others, unless the function takes them."""
    users_module("np.ones((n, 3)), np.arange(n) % 4, np.ones((2, 3)), np.arange(2)")
    data = load_dataset(spec("userdata:load", n=40, subset=12, label_noise=0.5))
    assert data.train_inputs.shape == (12, 3)
    plain = load_dataset(spec("userdata:load", n=40, subset=12))
    assert not torch.equal(data.train_targets, plain.train_targets)
    assert int(data.train_targets.min()) >= 0 and int(data.train_targets.max()) < 4
