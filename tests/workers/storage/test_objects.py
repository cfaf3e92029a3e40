"""One contract for folders and object stores."""

import contextlib
import itertools
import multiprocessing
import os
import secrets
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers import flaky_proxy, s3_server
from workers.storage.folder import FolderObjects
from workers.storage.objects import (
    AlreadyExists,
    Conflict,
    NotFound,
    NotWritable,
    StoreFull,
)
from workers.storage.open_objects import STORES, open_objects, register


@pytest.fixture
def objects(location):
    return open_objects(location)


def test_put_and_get(objects):
    """`get` returns the bytes of the last `put`."""
    for data in (b"", b"one", os.urandom(3_000_000)):
        objects.put("a/b.bin", data)
        assert objects.get("a/b.bin") == data


def test_missing_objects(objects):
    """`get` raises NotFound, `list` returns nothing, and `delete` is no error."""
    with pytest.raises(NotFound):
        objects.get("a/none")
    assert objects.list() == objects.list("a") == []
    objects.delete("a/none")


def test_listing_is_by_folder_and_sorted(objects):
    """A prefix is a folder, never the beginning of a name; sizes are those of the bytes."""
    for name in ("b/2", "b/1", "bc/1", "a"):
        objects.put(name, name.encode())
    assert [info.name for info in objects.list()] == ["a", "b/1", "b/2", "bc/1"]
    assert [(info.name, info.size) for info in objects.list("b")] == [("b/1", 3), ("b/2", 3)]
    objects.delete("b/1")
    assert [info.name for info in objects.list("b")] == ["b/2"]


def test_many_objects_are_listed(objects):
    """A listing of more than one page is complete."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: objects.put(f"many/{i:05d}", b"x"), range(1100)))
    assert [info.name for info in objects.list("many")] == [f"many/{i:05d}" for i in range(1100)]


def test_only_one_creates(objects):
    """Of many who create an object at once, exactly one succeeds, and it is the one that is read."""

    def create(i):
        try:
            objects.create("lease", f"{i}".encode())
        except AlreadyExists:
            return None
        return i

    with ThreadPoolExecutor(8) as pool:
        winners = [i for i in pool.map(create, range(8)) if i is not None]
    assert len(winners) == 1
    assert objects.get("lease") == f"{winners[0]}".encode()


def test_only_one_swaps(objects):
    """Of many who replace one version, exactly one succeeds; an old version is refused later."""
    objects.create("lease", b"first")
    _, version = objects.read_versioned("lease")

    def swap(i):
        try:
            return i, objects.swap("lease", f"{i}".encode(), version)
        except Conflict:
            return None

    with ThreadPoolExecutor(8) as pool:
        winners = [won for won in pool.map(swap, range(8)) if won is not None]
    assert len(winners) == 1
    winner, newer = winners[0]
    assert objects.read_versioned("lease") == (f"{winner}".encode(), newer)
    with pytest.raises(Conflict):
        objects.swap("lease", b"late", version)
    assert objects.swap("lease", b"next", newer)


def test_swapping_a_missing_object(objects):
    """An object that was deleted cannot be replaced."""
    version = objects.create("lease", b"first")
    objects.delete("lease")
    with pytest.raises(Conflict):
        objects.swap("lease", b"second", version)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", ""])
def test_names_stay_below_the_root(objects, name):
    """A name that points outside is refused before anything is done."""
    with pytest.raises(ValueError, match="relative path"):
        objects.put(name, b"x")


def test_writable_leaves_nothing(objects):
    """`check_writable` leaves no object."""
    objects.check_writable()
    assert objects.list() == []


def _write_for_ever(folder, name):
    objects = FolderObjects(Path(folder))
    while True:
        objects.put(name, secrets.token_bytes(1) * 500_000)


def test_a_killed_writer_leaves_whole_objects(tmp_path):
    """SIGKILL at any moment: readers see a whole write, never a part, and `sweep` removes hidden files."""
    context = multiprocessing.get_context("fork")
    objects = FolderObjects(tmp_path)
    for round_ in range(5):
        writer = context.Process(target=_write_for_ever, args=(tmp_path, "a/big"), daemon=True)
        writer.start()
        seen = 0
        while seen < 20 + 3 * round_:
            with contextlib.suppress(NotFound):
                data = objects.get("a/big")
                assert len(data) == 500_000
                assert len(set(data)) == 1
                seen += 1
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        data = objects.get("a/big")
        assert len(data) == 500_000
        assert len(set(data)) == 1
    objects.sweep()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["big"]


def test_a_stopped_process_with_the_lock_does_not_hang_others(tmp_path, monkeypatch):
    """Waiting for the lock of a stopped process ends with an error that names the lock."""
    import fcntl

    import workers.storage.folder
    from workers.storage.objects import StoreUnreachable

    monkeypatch.setattr(workers.storage.folder, "LOCK_SECONDS", 0.2)
    objects = FolderObjects(tmp_path)
    objects.create("lease", b"x")
    with open(tmp_path / workers.storage.folder._LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StoreUnreachable, match="end or wake"):
            objects.create("other", b"y")


def test_a_full_disk_leaves_the_old_object(tmp_path, monkeypatch):
    """One sentence; the former object stays whole, and no other file is left."""
    import errno

    import workers.storage.folder

    objects = FolderObjects(tmp_path)
    objects.put("a", b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workers.storage.folder.os, "fsync", full)
    with pytest.raises(StoreFull, match="free some space"):
        objects.put("a", b"new" * 1000)
    monkeypatch.undo()
    assert objects.get("a") == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("url", ["http://host/x", "ftp://bucket", "S3://bucket/x"])
def test_unknown_stores_are_refused(url):
    """The message lists the known schemes."""
    with pytest.raises(
        NotWritable, match="neither a folder nor one of s3://, gs://, az://; choose"
    ):
        open_objects(url)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("", "names no bucket: write {}://bucket/prefix"),
        ("/x", "names no bucket: write {}://bucket/prefix"),
        ("bucket//x", "without empty parts"),
        ("bucket/x//y", "without empty parts"),
        ("bucket/../x", "without empty parts"),
        ("bucket/a\0b", "and NUL characters"),
    ],
)
def test_a_location_that_is_none_is_one_sentence(scheme, rest, words):
    """For each kind of object store, without a request."""
    with pytest.raises(NotWritable, match=words.format(scheme)) as refused:
        open_objects(f"{scheme}://{rest}")
    assert "\n" not in str(refused.value)


def test_azure_without_an_account_is_one_sentence(monkeypatch):
    """A container is addressed by its account."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(NotWritable, match="set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACC"):
        open_objects("az://container/x")


@pytest.mark.s3
def test_a_wrong_key_is_one_sentence_without_the_key(s3, monkeypatch):
    """The message names the variables of refused credentials, never their values."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(NotWritable, match="AWS_SECRET_ACCESS_KEY") as refused:
        open_objects("s3://toscore/x").check_writable()
    assert "wrong-secret" not in str(refused.value)


def test_a_bucket_that_is_not_there(location):
    """NotWritable, which is not retried."""
    scheme, separator, _ = location.partition("://")
    if not separator:
        pytest.skip("a folder is made")
    with pytest.raises(NotWritable, match="does not exist: create it"):
        open_objects(f"{scheme}://no-such-bucket-here/x").check_writable()


@pytest.mark.parametrize(
    ("url", "endpoint", "allow"),
    [
        ("s3://bucket/x", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"),
        ("az://container/x", "AZURE_STORAGE_ENDPOINT", "AZURE_ALLOW_HTTP"),
    ],
)
def test_unencrypted_endpoints_have_to_be_allowed(url, endpoint, allow, monkeypatch):
    """Credentials are not sent unencrypted unless the user permits it."""
    monkeypatch.setenv(endpoint, "http://127.0.0.1:1")
    monkeypatch.delenv(allow, raising=False)
    with pytest.raises(NotWritable, match=f"not encrypted.*{allow}=true"):
        open_objects(url)


@pytest.mark.s3
def test_refusals_and_lost_answers_are_survived(s3, monkeypatch):
    """One request of three is answered by 503, one is carried out without an answer; nothing is lost.

    `create` recognises its own object after a lost answer, and raises for that of another writer.
    """
    with flaky_proxy.running(s3.port) as proxy:
        for name, value in {**s3.environment, "AWS_ENDPOINT_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        objects = open_objects(f"s3://{s3_server.BUCKET}/flaky-{secrets.token_hex(4)}")
        proxy.script = itertools.cycle(["refuse", "lose answer", "pass"])
        for i in range(5):
            objects.put(f"a/{i}", f"{i}".encode())
        version = objects.create("lease", b"mine")
        with pytest.raises(AlreadyExists):
            objects.create("lease", b"theirs")
        objects.swap("lease", b"mine too", version)
        assert [objects.get(f"a/{i}") for i in range(5)] == [f"{i}".encode() for i in range(5)]
        assert objects.get("lease") == b"mine too"
        assert len(objects.list("a")) == 5
        assert proxy.refused > 5
        assert proxy.lost > 5


def test_a_store_from_outside(monkeypatch):
    """A registered class opens the locations of its scheme, and messages list the scheme."""
    kept: dict[str, bytes] = {}

    class InMemory(FolderObjects):
        def __init__(self, location):
            self.location = location

        def put(self, name, data):
            kept[name] = data

        def get(self, name):
            return kept[name]

    monkeypatch.setattr("workers.storage.open_objects.STORES", dict(STORES))
    register("memory", InMemory)
    open_objects("memory://here").put("a", b"whole")
    assert open_objects("memory://here").get("a") == b"whole"
    with pytest.raises(NotWritable, match=r"az://, memory://; choose one of these"):
        open_objects("ftp://bucket")
    with pytest.raises(ValueError, match="memory:// is a known scheme"):
        register("memory", InMemory)
