"""One driver a run."""

import errno
import os
import random
import threading
from dataclasses import replace

import pytest

from orchestrator.scheduling import holder as holders
from orchestrator.scheduling import lease as leases
from orchestrator.scheduling.holder import Holder, is_gone, this_process
from orchestrator.scheduling.lease import Lease, LeaseHeld, LeaseInDoubt
from workers.storage.object_names import DIGEST_LENGTH, LEASE
from workers.storage.objects import AlreadyExists, Conflict, Fenced, NotWritable, StoreUnreachable
from workers.storage.open_objects import open_objects


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def objects(location):
    return open_objects(location)


def elsewhere(term=1, **changes):
    """A holder on another machine, whose process cannot be looked at from here."""
    holder = Holder(term, "other-host", "another-boot", 4242, "2026-01-01T00:00:00+00:00")
    return replace(holder, **changes)


def test_the_first_takes_it_and_the_second_is_told_who_holds_it(objects):
    """A living holder on this machine is named with its process and since when."""
    with_lease = Lease.acquire(objects)
    try:
        assert with_lease.term == 1
        objects_of_another = open_objects(objects.url)
        seen = Holder.decode(objects.get(LEASE))
        objects.put(LEASE, replace(seen, beat=seen.beat, boot="other").encode())
        clock = Clock()

        def beating(seconds):
            clock.sleep(seconds)
            held = Holder.decode(objects.get(LEASE))
            objects.put(LEASE, replace(held, beat=held.beat + 1).encode())

        with pytest.raises(LeaseHeld, match=r"process \d+ on .* since "):
            Lease.acquire(objects_of_another, clock=clock, sleep=beating)
    finally:
        with_lease.close()


def test_a_released_lease_is_taken_at_once(objects):
    """Each holder has a number of its own."""
    for term in (1, 2, 3):
        lease = Lease.acquire(objects)
        assert lease.term == term
        lease.close()


def test_a_silent_holder_elsewhere_is_taken_over_after_a_while(objects):
    """Its beats stand still for longer than they may; no clock of another machine is read."""
    objects.create(LEASE, elsewhere(7).encode())
    clock = Clock()
    lease = Lease.acquire(objects, clock=clock, sleep=clock.sleep)
    assert lease.term == 8
    assert clock.now > leases.STALE_SECONDS
    lease.close()


def test_a_dead_process_of_this_machine_is_seen_at_once(objects):
    """Nobody waits for a driver that was killed here."""
    mine = this_process(3)
    objects.create(LEASE, replace(mine, pid=2**22 + 1).encode())
    clock = Clock()
    lease = Lease.acquire(objects, clock=clock, sleep=clock.sleep)
    assert (lease.term, clock.now) == (4, 0.0)
    lease.close()


def test_of_many_who_take_over_one_succeeds(objects):
    """All contenders see the same stale holder; one takes the lease, and the others get an error."""
    objects.create(LEASE, elsewhere(released=True).encode())
    barrier, won, refused = threading.Barrier(6), [], []

    def take():
        barrier.wait()
        try:
            won.append(Lease.acquire(open_objects(objects.url)))
        except LeaseHeld as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 5)
    assert won[0].term == 2
    won[0].close()


def test_a_holder_that_was_fenced_off_stops(objects):
    """Whoever finds another token in the lease writes nothing more, and does not release it."""
    lease = Lease.acquire(objects, beating=False)
    objects.put(LEASE, elsewhere(2).encode())
    lease.beat()
    with pytest.raises(Fenced, match="taken this run over"):
        lease.check()
    lease.close()
    assert Holder.decode(objects.get(LEASE)) == elsewhere(2)


def test_the_thread_beats_until_the_lease_is_closed(objects, monkeypatch):
    """The counter in the store grows without anybody's doing, and the lease is released at the end."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.001)
    beaten, real = threading.Event(), objects.swap

    def swap(*arguments):
        beaten.set()
        return real(*arguments)

    monkeypatch.setattr(objects, "swap", swap)
    lease = Lease.acquire(objects)
    assert beaten.wait(10)
    lease.close()
    seen = Holder.decode(objects.get(LEASE))
    assert seen.beat > 0 and seen.released


class Faults:
    """A store whose conditional write can be made to fail, before or after it takes effect."""

    def __init__(self, objects):
        self._objects = objects
        self.before = self.after = None

    def __getattr__(self, name):
        return getattr(self._objects, name)

    def swap(self, name, data, version):
        if self.before is not None:
            raise self.before
        result = self._objects.swap(name, data, version)
        if self.after is not None:
            raise self.after
        return result


UNREACHABLE = StoreUnreachable("no route to host")
REFUSED = NotWritable("403: the token has expired")


@pytest.mark.parametrize("error", [UNREACHABLE, REFUSED, RuntimeError("unforeseen")])
def test_a_beat_that_fails_costs_no_lease_and_is_not_silent(objects, error):
    """The holder believes for the stale time, then reports why it does not, then holds the lease again."""
    clock, faulty = Clock(), Faults(objects)
    lease = Lease.acquire(faulty, clock=clock, sleep=clock.sleep, beating=False)
    faulty.before = error
    clock.sleep(leases.STALE_SECONDS - 1)
    lease.beat()
    lease.check()
    clock.sleep(2)
    lease.beat()
    assert not lease.is_held
    with pytest.raises(LeaseInDoubt, match=str(error)):
        lease.check()
    faulty.before = None
    lease.beat()
    lease.check()
    lease.close()
    assert Holder.decode(objects.get(LEASE)).released


def test_a_beat_whose_answer_was_lost_is_our_own(objects):
    """The object is then not the one that we remember, but it has our token: the next beat succeeds."""
    faulty = Faults(objects)
    lease = Lease.acquire(faulty, beating=False)
    faulty.after = UNREACHABLE
    lease.beat()
    faulty.after = None
    lease.beat()  # finds its own bytes
    lease.beat()
    lease.check()
    assert Holder.decode(objects.get(LEASE)).beat == 2
    lease.close()


@pytest.mark.parametrize("content", [b"", b'{"term": 3, "ho', b"[]", b"\xff", b'{"term": "three"}'])
def test_a_lease_that_cannot_be_read_is_taken_after_the_stale_time(objects, content):
    """Its term is unknown, so the new one is larger than any that left a trace in the store."""
    objects.put(LEASE, content)
    objects.put(f"run/config-00000007.{'0' * DIGEST_LENGTH}.json", b"{}")
    clock = Clock()
    lease = Lease.acquire(objects, clock=clock, sleep=clock.sleep, beating=False)
    assert lease.term == 8 and clock.now > leases.STALE_SECONDS
    lease.close()


def test_a_lease_that_was_deleted_starts_no_term_anew(objects):
    """Records of a term that is lower than a former one would not count."""
    objects.put(f"run/config-00000007.{'0' * DIGEST_LENGTH}.json", b"{}")
    lease = Lease.acquire(objects, beating=False)
    assert lease.term == 8
    lease.close()


def test_no_file_descriptors_left_is_no_death(monkeypatch):
    """A process that exists lives, whatever reading /proc says: EMFILE, or hidepid=2."""

    def unreadable(*arguments, **options):
        raise OSError(errno.EMFILE, "too many open files")

    holder = this_process(1)
    with monkeypatch.context() as patch:
        patch.setattr(holders, "_boot", lambda: holder.boot)
        patch.setattr(holders.Path, "read_text", unreadable)
        assert not is_gone(holder)


def test_a_process_of_another_user_lives(monkeypatch):
    """A signal to it is refused, which proves that it exists, even where /proc hides it."""

    def refused(pid, signal):
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "kill", refused)
    assert not is_gone(replace(this_process(1), pid=2**22 + 1))


class Store:
    """A lease object in memory, whose answers are delayed, lost or refused at random.

    Each request takes effect at a random moment between its start and its end.
    """

    url = "simulated"

    def __init__(self, draw, clock):
        self._draw, self._clock = draw, clock
        self._data, self._number = None, 0

    def list(self, prefix=""):
        return []

    def create(self, name, data):
        return self._request(lambda: self._write(data, None))

    def swap(self, name, data, version):
        return self._request(lambda: self._write(data, version))

    def read_versioned(self, name):
        return self._request(lambda: (self._data, str(self._number)))

    def _write(self, data, version):
        if version is None and self._data is not None:
            raise AlreadyExists(LEASE)
        if version is not None and version != str(self._number):
            raise Conflict(LEASE)
        self._data, self._number = data, self._number + 1
        return str(self._number)

    def _request(self, effect):
        fate, delay = self._draw.random(), self._draw.expovariate(2.0)
        if self._draw.random() < 0.05:
            delay += self._draw.uniform(5.0, 40.0)
        self._clock.sleep(delay * self._draw.random())
        if fate < 0.15:
            raise REFUSED if fate < 0.05 else UNREACHABLE
        answer = effect()
        self._clock.sleep(delay)
        if fate > 0.9:
            raise UNREACHABLE
        return answer


class Simulation:
    """Threads that run one at a time, in the order of simulated time: a sleeping one lets others run."""

    def __init__(self, draw, seconds):
        self.draw, self.seconds, self.now = draw, seconds, 0.0
        self.leases, self.held_by, self.takeovers = {}, [], 0
        self._greenlets = []

    def run(self, count):
        store = Store(self.draw, self)
        baton = [threading.Semaphore(0) for _ in range(count)]
        self._wake, self._baton = [0.0] * count, baton
        self._main, self._me, self.errors = threading.Semaphore(0), threading.local(), []
        threads = [
            threading.Thread(target=self._candidate, args=(i, store), daemon=True)
            for i in range(count)
        ]
        for thread in threads:
            thread.start()
        while any(wake < float("inf") for wake in self._wake) and not self.errors:
            number = min(range(count), key=self._wake.__getitem__)
            self.now = max(self.now, self._wake[number])
            baton[number].release()
            self._main.acquire()
            self._look()
        assert not self.errors, self.errors

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        number = self._me.number
        self._wake[number] = self.now + seconds
        self._main.release()
        self._baton[number].acquire()

    def _look(self):
        holders = [number for number, lease in self.leases.items() if lease.is_held]
        if len(holders) > 1:
            self.errors.append(f"{holders} believe at {self.now}")
        if holders and holders != self.held_by:
            self.held_by, self.takeovers = holders, self.takeovers + 1

    def _candidate(self, number, store):
        self._me.number = number
        self._baton[number].acquire()
        try:
            while self.now < self.seconds:
                self._hold(number, store)
                self.sleep(self.draw.uniform(0.0, 10.0))
        except Exception as error:
            self.errors.append(repr(error))
        self._wake[number] = float("inf")
        self._main.release()

    def _hold(self, number, store):
        try:
            lease = Lease.acquire(store, clock=self, sleep=self.sleep, beating=False)
        except (LeaseHeld, StoreUnreachable, NotWritable):
            return
        self.leases[number] = lease
        end = self.now + self.draw.expovariate(1 / 200.0)
        while self.now < end:
            # Now and then the whole process stops: SIGSTOP, or a suspended machine.
            self.sleep(self.draw.uniform(10.0, 60.0) if self.draw.random() < 0.1 else 2.0)
            lease.beat()
            try:
                lease.check()
            except Fenced:
                break
            except LeaseInDoubt:
                continue
        del self.leases[number]
        if self.draw.random() < 0.5:  # the others were killed
            lease.close()


@pytest.mark.parametrize("seed", range(12))
def test_never_do_two_believe_that_they_hold_the_lease(seed, monkeypatch):
    """Through pauses, slow requests, lost answers and refusals, for an hour of simulated time; and the
    lease changes hands, so the property is not empty."""
    monkeypatch.setattr(leases, "is_gone", lambda holder: False)  # all on different machines
    draw = random.Random(seed)
    simulation = Simulation(draw, 3600.0)
    simulation.run(2 + seed % 2)
    assert simulation.takeovers > 3
