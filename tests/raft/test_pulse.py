"""A leader's beat: entries that are taken and answered do for heartbeats, and nothing else does (section 5.2)."""

from __future__ import annotations

import pytest

from shardraft.config import RaftConfig
from shardraft.raft.leader import Leader
from shardraft.raft.ready import Role
from tests.raft.cluster import Cluster

BEAT_US = 50_000
STEP_US = 10_000


def led(config: RaftConfig | None = None) -> tuple[Cluster, Leader]:
    cluster = Cluster(config=config or RaftConfig(commit_push_ms=0))
    cluster.elect(1)
    cluster.settle()
    leader = cluster.raft(1).leading
    assert leader is not None
    return cluster, leader


def rounds_while(cluster: Cluster, leader: Leader, seconds: float, propose_every_us: int = 0) -> int:
    """How many rounds the leader sends in that time, while it is given something to do every so often."""
    before = leader.round
    for passed_us in range(STEP_US, int(seconds * 1e6) + 1, STEP_US):
        cluster.now_us += STEP_US
        if propose_every_us and passed_us % propose_every_us == 0 and leader.raft.role is Role.LEADER:
            cluster.propose(1, "x")
        for node in cluster.nodes.values():
            node.raft.tick(cluster.now_us)
        cluster.stabilize()
    return leader.round - before


def test_a_leader_with_nothing_to_say_sends_a_round_every_heartbeat() -> None:
    cluster, leader = led()
    assert rounds_while(cluster, leader, 1.0) == 20


@pytest.mark.parametrize("propose_every_us", [10_000, 40_000])
def test_entries_that_follow_each_other_closely_do_for_heartbeats(propose_every_us: int) -> None:
    cluster, leader = led()
    assert rounds_while(cluster, leader, 2.0, propose_every_us) == 0
    assert [cluster.raft(replica).role for replica in (2, 3)] == [Role.FOLLOWER] * 2
    assert cluster.raft(2).term == leader.raft.term, "nobody stood for election meanwhile"


def test_the_next_round_is_due_a_heartbeat_after_the_last_entries() -> None:
    cluster, leader = led()
    cluster.now_us = leader.raft.deadline_us - 1
    cluster.propose(1, "x")
    cluster.stabilize()
    sent_us = cluster.now_us
    cluster.now_us = leader.raft.deadline_us
    leader.raft.tick(cluster.now_us)
    assert leader.raft.deadline_us == sent_us + BEAT_US


def test_rounds_that_reads_ask_for_do_for_heartbeats_too() -> None:
    cluster, leader = led()
    before = leader.round
    for step in range(40):
        cluster.now_us += STEP_US
        leader.raft.tick(cluster.now_us)
        cluster.stabilize()
        if step % 2:
            leader.raft.read_index(step, cluster.now_us)
    assert leader.round - before == 19, "one for each read but the last"


def test_a_read_whose_round_was_lost_gets_another_although_entries_flow() -> None:
    """Nothing but a round answers it (thesis 6.4), and no acknowledgement of entries carries one."""
    cluster, leader = led()
    leader.raft.read_index(7, cluster.now_us)
    cluster.node(1).take()
    assert leader.reads.unacknowledged
    cluster.messages.clear()
    rounds_while(cluster, leader, 2 * BEAT_US / 1e6, 10_000)
    assert [state.context for state in cluster.node(1).read_states] == [7]


@pytest.mark.parametrize("cut", [(1, 3), (3, 1)])
def test_one_follower_that_does_not_hear_or_is_not_heard_and_rounds_go_on(cut: tuple[int, int]) -> None:
    cluster, leader = led()
    cluster.cuts |= {cut}
    assert rounds_while(cluster, leader, 1.0, 10_000) >= 15


def test_a_lease_is_made_of_rounds_whatever_is_written() -> None:
    cluster, leader = led(RaftConfig(commit_push_ms=0, lease_ms=400))
    assert rounds_while(cluster, leader, 1.0, 10_000) == 20


def test_a_leader_that_nobody_hears_steps_down_although_it_is_given_entries() -> None:
    """Check-quorum (thesis 6.2) does not rest on rounds being sent."""
    cluster, leader = led()
    cluster.cuts |= {(2, 1), (3, 1)}
    rounds_while(cluster, leader, 1.2, 10_000)
    assert leader.raft.role is not Role.LEADER
