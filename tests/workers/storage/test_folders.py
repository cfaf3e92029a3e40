"""Folders on file systems without locks or fsync of folders, and folders behind symbolic links."""

import errno
import fcntl
import os

import pytest

from tests.helpers.records import pair_record
from workers.storage.folder import FolderObjects
from workers.storage.objects import AlreadyExists, NotWritable, StoreUnreachable
from workers.storage.open_objects import open_objects
from workers.storage.run_store import Store


def used(objects):
    """Use a store as a run does: check, lease, take over, publish, read."""
    objects.check_writable()
    version = objects.create("lease.json", b"first")
    objects.swap("lease.json", b"second", version)
    with pytest.raises(AlreadyExists):
        objects.create("lease.json", b"third")
    store = Store(objects)
    store.take_over(1)
    store.publish_records([pair_record("k")], term=1)
    assert Store(objects).completed("pairs") == {"k"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_folders_that_cannot_be_forced_to_disk(tmp_path, monkeypatch, code):
    """Some network file systems refuse fsync of a folder: its files are forced to disk, and it works."""
    fsync = os.fsync

    def refusing(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    used(FolderObjects(tmp_path / "run"))


def test_a_folder_that_fails_to_reach_the_disk_is_reported(tmp_path, monkeypatch):
    """EIO is a fault of the disk: a renamed file may be lost after a power cut."""
    fsync = os.fsync

    def failing(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StoreUnreachable, match="did not answer"):
        FolderObjects(tmp_path).put("a", b"x")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_one_sentence(tmp_path, monkeypatch, code):
    """Lustre that is mounted without flock: refused before anything is run, with what to do."""

    def refusing(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refusing)
    objects = FolderObjects(tmp_path)
    for use in (objects.check_writable, lambda: objects.create("lease.json", b"x")):
        with pytest.raises(NotWritable, match=r"no file locks.*-o flock") as refused:
            use()
        assert "\n" not in str(refused.value)
    assert not [name for name in os.listdir(tmp_path) if "part" in name]


def test_a_folder_behind_a_symbolic_link(tmp_path):
    """The run, its store or a folder of objects may lie elsewhere: listings follow, and it works."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    used(open_objects(str(tmp_path / "run")))
    (tmp_path / "large").mkdir()
    paths = tmp_path / "disk" / "paths"
    paths.symlink_to(tmp_path / "large")
    store = Store(open_objects(str(tmp_path / "run")))
    name = store.publish_path("k", {})
    assert [info.name for info in store.objects.list("paths")] == [name]
    assert name in [info.name for info in store.objects.list()]


def test_links_in_a_circle_end(tmp_path):
    """A link to a folder above it is not followed for ever."""
    objects = FolderObjects(tmp_path)
    objects.put("a/b", b"x")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert "a/b" in [info.name for info in objects.list()]
