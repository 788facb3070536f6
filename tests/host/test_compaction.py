"""Logs are cut at their limits, and held for those who would else need a copy (decision 0013)."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.host.messages import CopyOrder
from shardraft.host.turn import CopyNote
from shardraft.raft.log import RaftLog
from tests.host.cluster import Cluster, Process, put_batch, write_request
from tests.host.test_host import SHARD, key_of, put

LIMITS = Limits(log_bytes_max=8_000, log_held_bytes_max=40_000, log_hold_ms_max=30_000, flush_age_ms_max=100)


class Story:
    """Three hosts, one shard, and a writer; ``slow`` is a follower."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.cluster = Cluster(shards=1, config=HostConfig(limits=limits))
        self.cluster.run(3)
        self.leader = self.cluster.leader_of(SHARD)
        self.slow = next(p for p in self.cluster.processes.values() if p is not self.leader)
        self.log: RaftLog = self.leader.host.voters[SHARD].log
        self.written = 0

    def write(self, count: int) -> None:
        """So many entries of about 300 bytes, ten in a second."""
        for _ in range(count):
            self.written += 1
            put(self.cluster, self.leader, self.written, b"k%d" % (self.written % 50), b"v" * 200)
            self.cluster.run(0.1)

    def write_until_log_holds(self, log_bytes: int) -> None:
        while self.log.log_bytes < log_bytes:
            first_index = self.log.first_index
            self.write(1)
            assert self.log.first_index == first_index, "the log is held"

    def caught_up(self) -> bool:
        return self.slow.host.voters[SHARD].log.last_index == self.log.last_index

    def leave(self) -> None:
        """The slow one is gone."""
        del self.cluster.processes[self.slow.host.host]

    def come_back(self) -> None:
        self.slow.start(self.cluster.now_us)
        self.cluster.processes[self.slow.host.host] = self.slow

    @property
    def copies_installed(self) -> int:
        return said(self.slow, "installed a copy")


def said(process: Process, what: str) -> int:
    return sum(1 for note in process.notes if isinstance(note, CopyNote) and what in note.what)


def test_a_follower_with_a_slow_disk_finds_the_entries_that_it_lacks() -> None:
    story = Story()
    story.slow.is_syncing = False
    story.write_until_log_holds(36_000)
    story.slow.is_syncing = True
    story.cluster.sync(story.slow)
    story.write(5)
    assert story.caught_up()
    assert story.copies_installed == 0
    assert story.log.log_bytes <= LIMITS.log_bytes_max, "nobody needs the others any more"


def test_a_follower_that_was_away_for_a_moment_needs_no_copy() -> None:
    story = Story()
    story.leave()
    story.write_until_log_holds(36_000)
    story.come_back()
    story.write(5)
    assert story.caught_up()
    assert story.copies_installed == 0


def test_a_log_is_held_up_to_its_limit_and_the_follower_is_named_once() -> None:
    story = Story()
    story.slow.is_syncing = False
    story.write_until_log_holds(39_000)
    story.write(200)
    assert story.log.first_index > 1
    assert 40_000 - 8_000 <= story.log.log_bytes <= 40_500
    assert said(story.leader, "the follower is at 1") == 1


def test_a_follower_that_is_silent_for_long_holds_nothing() -> None:
    story = Story(Limits(log_bytes_max=8_000, log_hold_ms_max=5_000, flush_age_ms_max=100))
    story.leave()
    story.write(48)  # One write in 100 ms, and the last round that was answered may be 166 ms older than the first.
    assert story.log.first_index == 1
    story.write(3)
    assert story.log.log_bytes <= 8_000
    story.come_back()
    story.write(20)
    assert story.caught_up()
    assert story.copies_installed == 1


def test_what_all_logs_may_hold_together_is_held_for_nobody() -> None:
    story = Story(Limits(log_bytes_max=8_000, host_log_bytes_max=20_000, flush_age_ms_max=100))
    story.slow.is_syncing = False
    story.write(200)
    assert 20_000 - 8_000 <= story.log.log_bytes <= 21_000


def test_a_held_log_is_not_cut_entry_by_entry() -> None:
    """Its followers acknowledge every entry a moment later, and another lags behind by a hundred."""
    story = Story()
    story.slow.is_syncing = False
    story.write(60)
    cuts = []
    compact = story.leader.host.compaction._compact
    story.leader.host.compaction._compact = lambda cut: (cuts.append(cut), compact(cut))[0]  # type: ignore[func-returns-value]
    for _ in range(60):
        oldest = story.slow.unsynced.pop(0)
        story.slow.unsynced, rest = [oldest], story.slow.unsynced
        story.cluster.sync(story.slow)
        story.slow.unsynced = rest
        story.write(1)
    assert 1 <= len(cuts) <= 20


@pytest.mark.parametrize("from_the_leader", [True, False])
def test_a_log_is_held_while_a_copy_is_on_its_way_and_for_those_who_catch_up_after_it(from_the_leader: bool) -> None:
    """However long that takes: the limit for a follower that is merely behind does not count then."""
    limits = Limits(
        log_bytes_max=8_000,
        log_held_bytes_max=20_000,
        flush_age_ms_max=100,
        copy_bytes_per_second_max=2_000,
        copy_chunks_in_flight_max=1,
    )
    story = Story(limits)
    story.cluster.loses = lambda source, target, message: from_the_leader and isinstance(message, CopyOrder)
    story.leave()
    story.write(150)
    story.come_back()
    longest = 0
    for _ in range(400):
        story.write(1)
        if story.copies_installed:
            break
        longest = max(longest, story.log.log_bytes)
    assert longest > 20_000
    story.write(20)
    assert story.caught_up()
    assert story.copies_installed == 1
    kept = "the leader's snapshot is kept for a while, and so is what follows it"
    assert (story.log.log_bytes > 20_000) is from_the_leader, kept
    story.write(100)
    assert story.log.log_bytes <= 8_000


def test_the_logs_of_a_host_together_keep_to_its_limit_and_the_largest_give_way() -> None:
    limits = Limits(log_bytes_max=20_000, host_log_bytes_max=16_000, flush_age_ms_max=100)
    cluster = Cluster(hosts=1, shards=2, config=HostConfig(limits=limits))
    cluster.run(3)
    host = cluster.leader_of(SHARD).host
    quiet, busy = (host.replicas[shard] for shard in sorted(host.replicas))
    for request_id in range(1, 300):
        shard = quiet.shard if request_id <= 20 else busy.shard
        batch = put_batch(request_id, {key_of(cluster, b"k%d" % request_id, shard): b"v" * 200})
        cluster.ask(cluster.leader_of(shard), write_request(request_id, shard, batch))
        cluster.settle()
    cluster.run(1)
    assert quiet.log.first_index == 1, "a small log is left alone"
    assert busy.log.first_index > 1
    assert quiet.log.log_bytes + busy.log.log_bytes <= limits.host_log_bytes_max


@pytest.mark.parametrize(
    ("logs_bytes", "each_max", "room_bytes"),
    [
        ([], 64, 100),
        ([50, 50], 64, 100),
        ([60, 60], 50, 50),
        ([10, 100], 64, 90),
        ([10, 10, 100, 100], 40, 40),
        ([0] * 99 + [101], 64, 100),
        ([2] * 100, 1, 1),
    ],
)
def test_what_small_logs_leave_is_shared_evenly(logs_bytes: list[int], each_max: int, room_bytes: int) -> None:
    config = HostConfig(limits=Limits(log_bytes_max=64, host_log_bytes_max=100))
    compaction = Cluster(hosts=1, shards=1, config=config).processes[1].host.compaction
    compaction.share_room(logs_bytes)
    assert (compaction.log_bytes_max, compaction.room_bytes) == (each_max, room_bytes)
    compaction.share_room([])
    assert compaction.log_bytes_max == 64, "what was scarce is not so for ever"
