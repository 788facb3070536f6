"""Which configuration is in effect at a replica, and what it keeps of former ones (section 6)."""

from __future__ import annotations

import attrs
import pytest

from shardraft.errors import StorageError
from shardraft.raft.configurations import Configurations
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.log import RaftLog
from shardraft.raft.membership import encode_membership
from shardraft.raft.messages import AppendEntries
from shardraft.types import INTEGER_MAX
from tests.raft.cluster import Cluster, group
from tests.raft.law import SHARD, Copy, Disk


def test_a_configuration_is_in_effect_as_soon_as_it_is_appended() -> None:
    """Section 6: a server always uses the latest configuration in its log, whether it is committed or not."""
    cluster = Cluster()
    cluster.elect(1)
    entry = cluster.change(1, remove=(3,))
    assert (cluster.raft(1).membership, cluster.raft(1).membership_index) == (group(1, 2), entry.index)
    assert not cluster.raft(1).membership_settled
    cluster.raft(2).step(AppendEntries(SHARD, 1, 1, 2, 1, 1, 1, (entry,)), cluster.now_us)
    assert (cluster.raft(2).membership, cluster.raft(2).commit_index) == (group(1, 2), 1)
    cluster.settle()
    assert cluster.raft(1).membership_settled


def test_a_follower_becomes_a_voter_with_a_timer_and_ceases_to_be_one_on_append() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.change(1, add=(4,))
    for _ in range(4):
        cluster.turn()
        cluster.deliver_all()
    staging = cluster.raft(4)
    assert (staging.membership.staging, staging.deadline_us) == ((4,), INTEGER_MAX)
    cluster.settle()
    assert staging.deadline_us < INTEGER_MAX
    cluster.change(1, remove=(4,))
    cluster.settle()
    assert (staging.is_voter, staging.has_left, staging.deadline_us) == (False, True, INTEGER_MAX)


def test_a_replica_whose_promotion_is_the_last_it_hears_has_a_timer() -> None:
    """It may be needed."""
    raft = Cluster().node(4).raft
    staging = attrs.evolve(group(1, 2, 3, 4), voters=(1, 2, 3), staging=(4,))
    for index, membership, timed in ((1, staging, False), (2, group(1, 2, 3, 4), True)):
        entry = encode_entry(SHARD, index, 1, EntryKind.MEMBERSHIP, 1, encode_membership(membership))
        raft.step(AppendEntries(SHARD, 1, 1, 4, index - 1, min(index - 1, 1), 0, (entry,)), 0)
        assert (raft.deadline_us < INTEGER_MAX) == timed


def test_after_a_restart_the_configurations_in_the_log_are_in_effect_again() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.isolate(4)
    cluster.change(1, add=(4,), remove=(2,))
    cluster.stabilize()
    for node in (cluster.nodes[1], cluster.nodes[3]):
        node.restart()
        membership = node.raft.membership
        assert (membership.voters, membership.staging, membership.leaving) == ((1, 2, 3), (4,), (2,))
        assert node.raft.membership_index == 2


def test_compaction_keeps_the_configuration_in_effect() -> None:
    cluster = Cluster()
    cluster.elect(1)
    cluster.change(1, remove=(3,))
    cluster.settle()
    cluster.change(1, add=(4,))
    cluster.settle()
    node = cluster.nodes[1]
    for index in range(2, node.raft.commit_index + 1):
        node.raft.compact(index)
        node.disk.compact_to(index)
        assert node.raft.membership == group(1, 2, 4)
        assert node.raft.configurations.since(0)[0] == node.disk.membership, "former ones are forgotten"
    node.restart()
    assert node.raft.membership == group(1, 2, 4)


def test_only_the_part_of_the_log_behind_the_given_index_is_read_at_start() -> None:
    """The applied state knows the configuration as of its ``last_applied``."""
    disk = Disk(group(1, 2, 3))
    memberships = {2: group(1, 2), 5: group(1, 2, 4), 8: group(2, 4)}
    for index in range(1, 10):
        payload = encode_membership(memberships[index]) if index in memberships else b"x"
        kind = EntryKind.MEMBERSHIP if index in memberships else EntryKind.BATCH
        disk.entries.append(encode_entry(SHARD, index, 1, kind, index, payload))
    log = RaftLog(SHARD, disk, disk.summary(), cache_bytes_max=1)
    found = Configurations.of_log(6, memberships[5], log)
    assert [found.at(index) for index in (6, 7, 8, 9)] == [
        memberships[5],
        memberships[5],
        memberships[8],
        memberships[8],
    ]
    assert (found.latest, found.index) == (memberships[8], 8)
    assert Configurations.of_log(9, memberships[8], log).latest == memberships[8]
    everything = Configurations.of_log(0, group(1, 2, 3), log)
    assert [everything.at(index) for index in (1, 2, 5, 9)] == [group(1, 2, 3), *memberships.values()]
    reads = disk.reads
    Configurations.of_log(9, memberships[8], log)
    assert disk.reads == reads


def test_a_configuration_on_disk_that_cannot_be_read_ends_the_start() -> None:
    disk = Disk(group(1))
    disk.entries.append(encode_entry(SHARD, 1, 1, EntryKind.MEMBERSHIP, 1, b"\x02newer"))
    log = RaftLog(SHARD, disk, disk.summary(), cache_bytes_max=1)
    with pytest.raises(StorageError, match="the configuration stored at 1"):
        Configurations.of_log(0, group(1), log)


def test_a_snapshot_brings_the_configuration_it_was_taken_under() -> None:
    cluster = Cluster()
    node = cluster.nodes[1]
    assert node.raft.accept_copy(2, 1, 0)
    assert node.raft.begin_restore(5, 1)
    node.install(Copy(1, 2, 1, 5, 1, 0, group(1, 2, 7)))
    assert (node.raft.membership, node.raft.membership_index, node.raft.membership_settled) == (group(1, 2, 7), 5, True)
