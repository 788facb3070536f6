"""Each kind of fault does what its name says, and a host that takes it badly is found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import StorageError
from shardraft.host.met_starts import MetStarts, Start
from shardraft.raft.entry import EntryKind, decode_entry, encode_entry
from shardraft.raft.group import Group
from shardraft.sim.cluster import Cluster
from shardraft.sim.crash_points import OF_A_COPY, CrashPoint, Point
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.report import REFUSED, STOPPED
from shardraft.sim.store import COPY_NONCES, SimStore
from shardraft.types import HostId, ShardId

SMALL_LOG = HostConfig(limits=Limits(log_bytes_max=3_000, log_held_bytes_max=6_000, flush_age_ms_max=100))

Make: TypeAlias = Callable[[Cluster, HostId], SimStore]


def fill(cluster: Cluster, count: int) -> None:
    for number in range(count):
        call = cluster.put(b"filler-%d" % number, b"." * 100)
        cluster.wait(call)
        assert call.error is None


def crashes(cluster: Cluster, point: Point) -> int:
    return cluster.world.happened.get(point.crash, 0)


# Crashes.


@pytest.mark.parametrize("point", [point for point in Point if point not in OF_A_COPY])
@pytest.mark.parametrize("times", [1, 3])
def test_a_process_crashes_between_any_two_steps_and_comes_back(point: Point, times: int) -> None:
    cluster = Cluster(config=SMALL_LOG)
    leader = cluster.elect()
    # A leader persists for itself and answers clients; what rests on a commit leaves from a follower.
    host = cluster.followers()[0] if point is Point.PROMISED else leader
    cluster.process(host).crash_point = CrashPoint(point, times, 700_000)
    fill(cluster, 30)
    cluster.run(seconds=1)
    assert crashes(cluster, point) == 1
    assert cluster.process(host).is_up
    cluster.settle()
    assert cluster.get_everywhere(b"filler-29") == b"." * 100


@pytest.mark.parametrize("point", OF_A_COPY)
def test_a_process_crashes_in_the_middle_of_a_copy(point: Point) -> None:
    cluster = Cluster(config=SMALL_LOG)
    cluster.elect()
    behind = cluster.followers()[0]
    cluster.isolate(behind)
    fill(cluster, 80)
    source = next(host for host in cluster.followers() if host != behind)  # A leader has a follower send it.
    host = source if point is Point.SPOOLED else behind
    cluster.process(host).crash_point = CrashPoint(point, 1, 700_000)
    cluster.world.uncut(list(cluster.world.network.cut))
    cluster.run_until(lambda: crashes(cluster, point) == 1)
    cluster.settle()
    assert cluster.get_everywhere(b"filler-79") == b"." * 100


# Disks that hang.


def hang(cluster: Cluster, host: HostId) -> None:
    cluster.process(host).disk.hang(log=True, state=True)


def test_a_leader_whose_disk_hangs_is_replaced_and_follows_again_when_it_is_released() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    hang(cluster, leader)
    call = cluster.put(b"k", b"v")
    cluster.run(seconds=1.2)
    assert not cluster.leads(leader)
    assert cluster.elect_other_than(leader)
    cluster.wait(call)
    assert call.error is None
    cluster.run(seconds=5)
    assert cluster.world.invariants.counts.hangs > 0
    cluster.heal()
    cluster.settle()
    assert cluster.get_everywhere(b"k") == b"v"


def test_a_hanging_disk_ends_the_office_of_idle_groups_too() -> None:
    """One shard writes and finds out; the other is at rest, and nobody would look at its disk until a client does."""
    busy, idle = 1, 4
    cluster = Cluster(shards=4)
    leader = cluster.elect(busy)
    cluster.run_until(lambda: cluster.leads(leader, idle))
    cluster.run(seconds=2)
    leading = cluster.host(leader).voters[idle].raft.leading
    assert leading is not None
    assert leading.rest.resting
    hang(cluster, leader)
    cluster.put(key_in(cluster, busy), b"v")
    cluster.run(seconds=1.2)
    assert not cluster.leads(leader, busy)
    assert not cluster.leads(leader, idle)
    assert cluster.elect_other_than(leader, idle)
    cluster.run(seconds=5)
    assert not cluster.leads(leader, idle), "it does not campaign either"
    cluster.heal()
    cluster.settle()
    cluster.run_until(lambda: cluster.leads(leader, idle))


def key_in(cluster: Cluster, shard: ShardId) -> bytes:
    """A key of that shard."""
    keys = (b"%d" % number for number in range(10_000))
    return next(key for key in keys if cluster.world.shard_map.locate(key)[0].shard == shard)


def test_a_follower_whose_disk_hangs_disturbs_nobody() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    hang(cluster, cluster.followers()[0])
    term = cluster.term(leader)
    fill(cluster, 20)
    cluster.run(seconds=10)
    assert cluster.leads(leader)
    assert cluster.term(leader) == term


@pytest.mark.replaces_code
def test_a_leader_that_stays_in_office_with_a_disk_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Group, "disk_is_stalled", False)
    cluster = Cluster()
    hang(cluster, cluster.elect())
    cluster.put(b"k", b"v")
    with pytest.raises(SimulationFailure, match="leads shard 1, and its disk has been hanging"):
        cluster.run(seconds=3)


@pytest.mark.replaces_code
def test_a_host_that_campaigns_with_a_disk_that_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Group, "disk_is_stalled", False)
    cluster = Cluster()
    leader = cluster.elect()
    follower = cluster.followers()[0]
    hang(cluster, follower)
    cluster.write(b"k", b"v")
    cluster.crash(leader)
    with pytest.raises(SimulationFailure, match="campaigns for shard 1, and its disk has been hanging"):
        cluster.run(seconds=5)


def test_no_process_starts_on_a_disk_that_hangs() -> None:
    cluster = Cluster()
    follower = next(host for host in cluster.followers() if host != cluster.elect())
    hang(cluster, follower)
    cluster.crash(follower)
    cluster.restart(follower)
    assert not cluster.process(follower).is_up
    cluster.heal()
    cluster.settle()


# Disks that changed a byte.


def test_a_host_that_meets_a_damaged_entry_stops_and_stays_down_until_its_disk_is_mended() -> None:
    cluster = Cluster()
    fill(cluster, 5)
    follower = cluster.followers()[0]
    store = cluster.process(follower).disk.store
    store.flipped = store.logs[1].encoded[2]
    cluster.crash(follower)
    cluster.restart(follower)
    assert not cluster.process(follower).is_up
    assert cluster.world.happened == {STOPPED: 1}
    fill(cluster, 5)
    cluster.heal()
    cluster.settle()


def test_a_host_that_meets_a_damaged_value_while_it_serves_stops() -> None:
    cluster = Cluster(config=SMALL_LOG)
    cluster.write(b"k", b"v")
    leader = cluster.elect()
    store = cluster.process(leader).disk.store
    cluster.run_until(lambda: bool(store.states[1].items))
    (store.flipped,) = store.states[1].items.values()
    assert cluster.read(b"k") == b"v", "from another leader, and never the damaged value"
    assert cluster.world.happened == {STOPPED: 1}
    assert not cluster.process(leader).is_up


@pytest.mark.replaces_code
def test_a_change_that_no_checksum_notices_is_noticed_by_what_is_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(config=HostConfig(limits=Limits(flush_age_ms_max=60_000)))
    fill(cluster, 5)
    follower = cluster.followers()[0]
    store = cluster.process(follower).disk.store
    store.flipped = store.logs[1].encoded[4]

    def unnoticed(self: SimStore, encoded: bytes, shard: int) -> bytes:
        entry = decode_entry(encoded, shard)
        payload = entry.payload[:-1] + b"!" if encoded is self.flipped else entry.payload
        return encode_entry(shard, entry.index, entry.term, EntryKind(entry.kind), entry.time_us, payload).encoded

    monkeypatch.setattr(SimStore, "_checked", unnoticed)
    cluster.crash(follower)
    cluster.restart(follower)
    with pytest.raises(SimulationFailure, match="another hash"):
        cluster.run(seconds=3)


def test_a_store_that_fails_without_a_damaged_disk_is_a_bug() -> None:
    cluster = Cluster()
    with pytest.raises(SimulationFailure, match="stopped: a gap"):
        cluster.world.disk_failed(cluster.process(cluster.elect()), StorageError("a gap"))


# Disks of another time.


def an_old_copy(cluster: Cluster, host: HostId) -> SimStore:
    """A copy of the host's disk from before its present start, which everybody else has met."""
    copy = cluster.process(host).disk.store.old_copy()
    cluster.crash(host)
    cluster.restart(host)
    cluster.settle()
    cluster.run(seconds=1)
    return copy


def an_empty_disk(cluster: Cluster, host: HostId) -> SimStore:
    return SimStore(cluster.world.shard_map.cluster_id, host, cluster.world.shard_map, first_nonce=2 * COPY_NONCES)


@pytest.mark.parametrize("make", [an_old_copy, an_empty_disk])
def test_a_host_on_another_disk_than_its_newest_is_refused_and_stays_out(make: Make) -> None:
    cluster = Cluster()
    fill(cluster, 5)
    follower = cluster.followers()[0]
    store = make(cluster, follower)
    cluster.world.impersonate(follower, store)
    cluster.run(seconds=1)
    assert cluster.world.happened == {REFUSED: 1}
    assert not cluster.process(follower).is_up
    assert "the disk was wiped or is an old copy" in store.superseded
    with pytest.raises(StorageError, match="refused by another host"):
        store.recover()
    fill(cluster, 5)
    cluster.heal()
    cluster.settle()
    assert cluster.get_everywhere(b"filler-4") == b"." * 100


@pytest.mark.replaces_code
@pytest.mark.parametrize("make", [an_old_copy, an_empty_disk])
def test_a_host_that_is_let_in_on_another_disk_is_noticed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MetStarts, "meet", lambda met, host, start: False)
    cluster = Cluster()
    follower = cluster.followers()[0]
    cluster.settle()
    cluster.world.impersonate(follower, make(cluster, follower))
    with pytest.raises(SimulationFailure, match="which does not run from its newest disk"):
        cluster.run(seconds=1)


def test_a_host_that_is_refused_on_its_newest_disk_is_noticed() -> None:
    cluster = Cluster()
    follower = next(host for host in cluster.followers() if host != cluster.elect())
    cluster.crash(follower)
    others = [process for process in cluster.world.voters() if process.node != follower]
    others[0].disk.store.met.meet(follower, Start(99, 1))
    cluster.restart(follower)
    with pytest.raises(SimulationFailure, match="runs from its newest disk and is refused"):
        cluster.run(seconds=1)


def test_everybody_remembers_whom_it_met_over_its_own_restarts() -> None:
    cluster = Cluster()
    cluster.settle()
    cluster.run(seconds=1)
    store = an_empty_disk(cluster, 1)
    cluster.crash(2, 3)
    cluster.restart(2, 3)
    cluster.world.impersonate(1, store)
    cluster.run(seconds=1)
    assert cluster.world.happened[REFUSED] == 1
