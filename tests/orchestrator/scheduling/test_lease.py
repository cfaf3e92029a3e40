"""One driver a run."""

import threading
from dataclasses import replace

import pytest

from orchestrator.scheduling import lease as leases
from orchestrator.scheduling.holder import Holder, this_process
from orchestrator.scheduling.lease import Fenced, Lease, LeaseHeld
from workers.storage.object_names import LEASE
from workers.storage.open_objects import open_objects


class Clock:
    """Time that passes when somebody sleeps."""

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
    """All see the same stale holder; the others are told that it was just taken."""
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


def test_a_holder_that_was_fenced_off_stops(objects, monkeypatch):
    """Whoever finds another term in the lease writes nothing more, and does not release it."""
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    lease = Lease.acquire(objects)
    lease._thread.join(timeout=0)
    objects.put(LEASE, elsewhere(2).encode())
    lease._thread.join(timeout=10)
    with pytest.raises(Fenced, match="taken this run over"):
        lease.check()
    lease.close()
    assert Holder.decode(objects.get(LEASE)) == elsewhere(2)


def test_a_store_that_is_away_for_a_while_costs_no_lease(objects, monkeypatch):
    """The next beat that gets through goes on from the last."""
    from workers.storage.objects import StoreUnreachable

    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.01)
    beaten, real, calls = threading.Event(), objects.swap, []

    def swap(name, data, version):
        calls.append(name)
        if len(calls) <= 3:
            raise StoreUnreachable("away")
        beaten.set()
        return real(name, data, version)

    monkeypatch.setattr(objects, "swap", swap)
    lease = Lease.acquire(objects)
    assert beaten.wait(10)
    lease.check()
    lease.close()
    assert Holder.decode(objects.get(LEASE)).released
