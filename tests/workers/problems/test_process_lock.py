"""Data are downloaded once, however many processes of a node ask for them at the same time."""

import threading
import time
from types import SimpleNamespace

import torch

from workers.problems import image_data
from workers.problems.process_lock import process_lock


def test_a_download_never_races(tmp_path, monkeypatch):
    """Eight callers of `download=True` at once: one downloads, none reads half a file."""
    monkeypatch.setenv("TOSCORE_DATA", str(tmp_path / "data"))
    downloads = []

    def make(datasets, folder, train):
        file = folder / "images"
        if not file.exists():
            downloads.append(train)
            with file.open("w") as out:
                out.write("half ")
                out.flush()
                time.sleep(0.2)
                out.write("and half")
        assert file.read_text() == "half and half"
        images = torch.arange(18).reshape(2, 3, 3) + int(train)
        return SimpleNamespace(data=images, targets=[0, 1])

    load = image_data._torchvision("mnist", make)
    loaded, errors = [], []

    def call():
        try:
            loaded.append(load().fingerprint)
        except Exception as error:
            errors.append(error)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not errors and len(loaded) == 8 and len(set(loaded)) == 1
    assert downloads == [True]


def test_without_a_folder_or_locks_nobody_waits(tmp_path, monkeypatch):
    """A read-only data folder and a file system without locks are no errors."""
    (tmp_path / "file").write_text("")
    with process_lock(tmp_path / "file" / "below", "mnist"):
        pass

    def no_locks(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("workers.problems.process_lock.fcntl.flock", no_locks)
    with process_lock(tmp_path, "mnist"):
        pass
