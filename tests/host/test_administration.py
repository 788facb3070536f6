"""What an operator asks of a running host: another leader, a flush and a short log, and what is going on."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, Limits, RaftConfig
from shardraft.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotLeader,
    Overloaded,
    ShardraftError,
    WrongShard,
)
from shardraft.kv.requests import (
    ErrorReply,
    ShardStatus,
    SnapshotReply,
    SnapshotRequest,
    StatusReply,
    StatusRequest,
    TransferReply,
    TransferRequest,
    WriteReply,
)
from tests.host.cluster import Cluster, Process, put_batch, write_request

SHARD = 1
"""Led by host 1, the first voter of the map."""
BETWEEN_ROUNDS_MS = RaftConfig().election_timeout_ms // 3


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def put(cluster: Cluster, request_id: int, count: int = 1) -> None:
    leader = cluster.leader_of(SHARD)
    items = {b"\0\0key/%d" % number: b"value" * 20 for number in range(count)}
    cluster.ask(leader, write_request(request_id, SHARD, put_batch(request_id, items)))
    cluster.run(0.1)
    assert isinstance(cluster.reply_to(leader, request_id), WriteReply)


def refusal(cluster: Cluster, process: Process, request_id: int) -> ShardraftError:
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, ErrorReply), f"expected a refusal, got {reply}"
    return reply.error


def leads(cluster: Cluster, host: int) -> bool:
    return SHARD in cluster.processes[host].host.leads()


# Transfer


def test_a_transfer_is_answered_when_the_other_leads(cluster: Cluster) -> None:
    first = cluster.processes[1]
    cluster.ask(first, TransferRequest(7, SHARD, 5_000, host=3))
    assert cluster.reply_to(first, 7) is None
    cluster.settle()
    assert cluster.reply_to(first, 7) == TransferReply(7, leader=3, term=2)
    assert leads(cluster, 3)


def test_the_preferred_leader_does_not_take_a_transferred_shard_back(cluster: Cluster) -> None:
    """Decision 0012. Without it, host 1 would lead again after five seconds."""
    cluster.ask(cluster.processes[1], TransferRequest(7, SHARD, 5_000, host=3))
    cluster.run(30)
    assert leads(cluster, 3)


def test_when_the_new_leader_is_gone_the_preferred_one_leads_again(cluster: Cluster) -> None:
    cluster.ask(cluster.processes[1], TransferRequest(7, SHARD, 5_000, host=3))
    cluster.settle()
    cluster.processes[3].start(cluster.now_us)
    cluster.run(12)
    assert leads(cluster, 1)


def test_who_leads_already_is_answered_at_once_and_stays(cluster: Cluster) -> None:
    first, third = cluster.processes[1], cluster.processes[3]
    first.host.voters[SHARD].raft.transfer(3, cluster.now_us)
    first.host.touch(first.host.voters[SHARD])
    cluster.settle()
    assert leads(cluster, 3)
    cluster.ask(third, TransferRequest(7, SHARD, 5_000, host=3))
    cluster.settle()
    assert cluster.reply_to(third, 7) == TransferReply(7, leader=3, term=2)
    cluster.run(12)
    assert leads(cluster, 3)


def test_a_target_that_does_not_answer_is_given_up_and_named(cluster: Cluster) -> None:
    first = cluster.processes[1]
    del cluster.processes[3]
    cluster.ask(first, TransferRequest(7, SHARD, 5_000, host=3))
    cluster.run(0.9)
    assert cluster.reply_to(first, 7) is None
    cluster.run(0.3)
    error = refusal(cluster, first, 7)
    assert isinstance(error, Conflict)
    assert str(error).startswith("host 3 did not take over within 1000 ms")
    assert (error.applied, error.shard) == ("no", SHARD)
    assert leads(cluster, 1)
    put(cluster, 8)


def test_a_transfer_that_its_deadline_cuts_short_has_an_unknown_outcome(cluster: Cluster) -> None:
    first = cluster.processes[1]
    del cluster.processes[3]
    cluster.ask(first, TransferRequest(7, SHARD, 200, host=3))
    cluster.run(5)
    error = refusal(cluster, first, 7)
    assert isinstance(error, DeadlineExceeded)
    assert error.applied == "unknown"


@pytest.mark.parametrize(
    ("host", "request_shard", "target", "expected"),
    [(2, SHARD, 3, NotLeader), (1, SHARD, 9, InvalidArgument), (1, 99, 2, WrongShard)],
)
def test_what_cannot_be_transferred_is_refused_by_type(
    cluster: Cluster, host: int, request_shard: int, target: int, expected: type[ShardraftError]
) -> None:
    process = cluster.processes[host]
    cluster.ask(process, TransferRequest(7, request_shard, 5_000, host=target))
    cluster.settle()
    error = refusal(cluster, process, 7)
    assert type(error) is expected
    assert (error.applied, error.shard) == ("no", request_shard)
    if isinstance(error, NotLeader):
        assert error.leader == 1


def test_a_second_transfer_elsewhere_is_refused_while_one_is_under_way(cluster: Cluster) -> None:
    first = cluster.processes[1]
    del cluster.processes[3]
    cluster.ask(first, TransferRequest(7, SHARD, 5_000, host=3))
    cluster.ask(first, TransferRequest(8, SHARD, 5_000, host=2))
    cluster.settle()
    assert isinstance(refusal(cluster, first, 8), Conflict)


def test_requests_of_operators_count_among_those_in_flight() -> None:
    cluster = Cluster(config=HostConfig(limits=Limits(requests_in_flight_max=1)))
    cluster.run(3)
    first = cluster.processes[1]
    del cluster.processes[3]
    cluster.ask(first, TransferRequest(7, SHARD, 5_000, host=3))
    cluster.ask(first, SnapshotRequest(8, SHARD, 5_000))
    cluster.settle()
    assert isinstance(refusal(cluster, first, 8), Overloaded)


# Snapshot


def snapshot(cluster: Cluster, process: Process, request_id: int) -> SnapshotReply:
    cluster.ask(process, SnapshotRequest(request_id, SHARD, 5_000))
    cluster.settle()
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, SnapshotReply)
    return reply


def test_a_snapshot_flushes_the_state_and_cuts_the_log_behind_it(cluster: Cluster) -> None:
    for number in range(1, 6):
        put(cluster, number)
    for process in cluster.processes.values():
        replica = process.host.replicas[SHARD]
        applied, before = replica.machine.last_applied, replica.log.log_bytes
        assert replica.machine.flushed_index < applied
        reply = snapshot(cluster, process, 50)
        assert reply == SnapshotReply(50, applied, applied + 1, before, 0, 0)
        assert (replica.machine.flushed_index, replica.log.first_index) == (applied, applied + 1)
        process.start(cluster.now_us)
        assert process.host.replicas[SHARD].machine.last_applied == applied


def test_a_snapshot_of_what_is_flushed_already_is_answered_at_once(cluster: Cluster) -> None:
    put(cluster, 1)
    first = cluster.processes[1]
    before = snapshot(cluster, first, 50)
    after = snapshot(cluster, first, 51)
    assert (after.index, after.log_bytes_before, after.log_bytes) == (before.index, 0, 0)


def test_a_snapshot_keeps_what_a_live_follower_lacks(cluster: Cluster) -> None:
    """A cut would cost it a full copy of the state."""
    put(cluster, 1)
    first, third = cluster.processes[1], cluster.processes[3]
    third.is_syncing = False
    held = third.host.replicas[SHARD].log.persisted_index
    put(cluster, 2)
    reply = snapshot(cluster, first, 50)
    assert (reply.first_index, reply.index) == (held + 1, held + 1)
    third.is_syncing = True
    cluster.run(0.2)
    assert snapshot(cluster, first, 51).first_index == held + 2
    assert third.host.replicas[SHARD].machine.last_applied == held + 1


def test_a_snapshot_does_not_wait_for_a_follower_that_is_gone(cluster: Cluster) -> None:
    put(cluster, 1)
    del cluster.processes[3]
    put(cluster, 2)
    cluster.run(3)
    reply = snapshot(cluster, cluster.processes[1], 50)
    assert reply.log_bytes == 0


def test_a_snapshot_keeps_what_a_learner_was_not_given_yet(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(0.5)
    put(cluster, 1)
    learner.is_syncing = False
    held = learner.host.replicas[SHARD].log.persisted_index
    put(cluster, 2)
    assert snapshot(cluster, cluster.processes[1], 50).first_index == held + 1


def test_a_learner_takes_a_snapshot_and_no_transfer(cluster: Cluster) -> None:
    learner = cluster.add_learner(101, parent=1)
    cluster.run(0.5)
    put(cluster, 1)
    cluster.run(0.5)
    assert snapshot(cluster, learner, 50).log_bytes == 0
    cluster.ask(learner, TransferRequest(51, SHARD, 5_000, host=2))
    cluster.settle()
    assert isinstance(refusal(cluster, learner, 51), NotLeader)


def test_a_snapshot_of_a_shard_that_is_not_here_is_refused(cluster: Cluster) -> None:
    first = cluster.processes[1]
    cluster.ask(first, SnapshotRequest(50, 99, 5_000))
    cluster.settle()
    assert isinstance(refusal(cluster, first, 50), WrongShard)


# Status


def status(cluster: Cluster, process: Process, request_id: int) -> ShardStatus:
    cluster.ask(process, StatusRequest(request_id))
    cluster.settle()
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, StatusReply)
    return next(shard for shard in reply.shards if shard.shard == SHARD)


def test_the_status_tells_the_membership_and_a_leader_how_far_the_others_are(cluster: Cluster) -> None:
    put(cluster, 1)
    first, second = cluster.processes[1], cluster.processes[2]
    told = status(cluster, first, 50)
    assert told.membership.voters == (1, 2, 3)
    assert [(each.replica, each.match_index, each.copying) for each in told.followers] == [
        (2, told.last_index, False),
        (3, told.last_index, False),
    ]
    followed = status(cluster, second, 51)
    assert (followed.membership, followed.followers) == (told.membership, ())


def test_the_followers_of_a_shard_that_rests_are_not_called_silent(cluster: Cluster) -> None:
    put(cluster, 1)
    cluster.run(20)
    leading = cluster.processes[1].host.voters[SHARD].raft.leading
    assert leading is not None
    assert leading.rest.resting
    assert max(each.silent_ms for each in status(cluster, cluster.processes[1], 50).followers) <= BETWEEN_ROUNDS_MS


def test_a_follower_that_is_gone_is_silent(cluster: Cluster) -> None:
    del cluster.processes[3]
    cluster.run(4)
    silent = {each.replica: each.silent_ms for each in status(cluster, cluster.processes[1], 50).followers}
    assert silent[2] <= BETWEEN_ROUNDS_MS
    assert silent[3] >= 3_900
