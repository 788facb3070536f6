"""Leadership transfer and the preferred leader, one test per rule (thesis 3.10; DESIGN 5). See also ``scenarios``."""

from __future__ import annotations

from itertools import pairwise

import pytest

from shardraft.config import RaftConfig
from shardraft.errors import Conflict, InvalidArgument, NotLeader, Overloaded
from shardraft.raft.messages import TimeoutNow
from shardraft.raft.ready import BecameLeader, ReadState, Role, TransferBegan, TransferGivenUp
from tests.raft.cluster import Cluster
from tests.raft.law import SHARD

MILLISECOND_US = 1000


def orders(cluster: Cluster, replica: int) -> list[int]:
    """To whom ``replica`` says TimeoutNow in its next ready."""
    return [message.to_replica for message in cluster.nodes[replica].take().messages if isinstance(message, TimeoutNow)]


# Transfer


def test_a_target_that_holds_everything_is_told_at_once_and_leads() -> None:
    """Thesis 3.10: no election timeout passes, and nobody refuses."""
    cluster = Cluster()
    cluster.elect(1)
    cluster.raft(1).transfer(2, cluster.now_us)
    assert cluster.raft(1).transferee == 2
    cluster.stabilize()
    assert (cluster.leaders(), cluster.raft(2).term, cluster.raft(1).transferee) == ([2], 2, 0)


def test_a_target_that_lacks_entries_gets_them_first() -> None:
    """Thesis 3.10: the prior leader fully updates the target server's log."""
    cluster = Cluster()
    leader = cluster.elect(1)
    entry = cluster.propose(1, "x")
    leader.transfer(3, cluster.now_us)
    assert orders(cluster, 1) == []
    cluster.stabilize()
    assert cluster.leaders() == [3]
    assert cluster.raft(3).log.term_at(entry.index) == 1


def test_the_order_waits_for_the_targets_disk() -> None:
    """What it holds is what it has persisted."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.nodes[3].disk_paused = True
    cluster.propose(1, "x")
    leader.transfer(3, cluster.now_us)
    cluster.stabilize()
    assert (cluster.leaders(), leader.commit_index) == ([1], 2)
    cluster.nodes[3].disk_paused = False
    cluster.stabilize()
    assert cluster.leaders() == [3]


def test_no_proposal_is_taken_during_a_transfer_and_reads_go_on() -> None:
    """Thesis 3.10: the prior leader stops accepting new client requests."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, "x")
    leader.transfer(3, cluster.now_us)
    with pytest.raises(Overloaded, match="handed over") as refusal:
        cluster.propose(1, "y")
    assert (refusal.value.applied, refusal.value.shard, leader.log.last_index) == ("no", SHARD, 2)
    leader.read_index(5, cluster.now_us)
    cluster.stabilize()
    assert cluster.nodes[1].read_states == [ReadState(5, 1)]


def test_a_dead_target_is_given_up_after_an_election_timeout() -> None:
    """Thesis 3.10: if the transfer does not complete after about an election timeout, it is aborted."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, "x")
    leader.transfer(3, cluster.now_us)
    cluster.run(0.95)
    assert leader.transferee == 3
    cluster.run(0.1)
    assert (leader.transferee, leader.role) == (0, Role.LEADER)
    cluster.propose(1, "y")
    notes = [note for note in cluster.nodes[1].notes if isinstance(note, TransferBegan | TransferGivenUp)]
    assert notes == [TransferBegan(SHARD, 1, 3), TransferGivenUp(SHARD, 1, 3)]


def test_a_target_that_dies_after_the_order_is_given_up_too() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.transfer(3, cluster.now_us)
    assert orders(cluster, 1) == [3]
    cluster.isolate(3)
    cluster.messages.clear()
    cluster.run(1.1)
    cluster.propose(1, "y")
    cluster.stabilize()
    assert leader.commit_index == 2


def test_the_order_is_given_once_and_repeated_with_each_heartbeat() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    leader.transfer(3, cluster.now_us)
    assert orders(cluster, 1) == [3]
    cluster.messages.clear()
    leader.tick(leader.deadline_us)
    assert orders(cluster, 1) == [3]
    assert orders(cluster, 1) == []


def test_the_same_transfer_may_be_asked_for_twice_and_no_other_one() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, "x")
    cluster.stabilize()
    for target in (3, 3, None):
        leader.transfer(target, cluster.now_us)
    with pytest.raises(Conflict, match="replica 3") as refusal:
        leader.transfer(2, cluster.now_us)
    assert refusal.value.shard == SHARD
    assert leader.transferee == 3


@pytest.mark.parametrize("target", [1, 4, 9, 0])
def test_only_another_voter_can_be_the_target(target: int) -> None:
    """1 leads already, 4 is staging, 9 is nobody."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(4)
    cluster.change(1, add=(4,))
    cluster.stabilize()
    with pytest.raises(InvalidArgument, match=f"replica {target} is no other voter"):
        leader.transfer(target, cluster.now_us)
    assert leader.transferee == 0


def test_a_voter_that_is_leaving_cannot_be_the_target() -> None:
    """It could lead no longer than the joint configuration lasts."""
    cluster = Cluster((1, 2), voters_outgoing=(2, 3))
    leader = cluster.elect_without_stabilizing(1)
    with pytest.raises(InvalidArgument):
        leader.transfer(3, cluster.now_us)
    leader.transfer(2, cluster.now_us)


def test_only_a_leader_hands_over() -> None:
    cluster = Cluster()
    cluster.elect(1)
    with pytest.raises(NotLeader) as refusal:
        cluster.raft(2).transfer(3, cluster.now_us)
    assert refusal.value.leader == 1
    assert cluster.raft(2).transferee == 0


def test_without_a_name_the_voter_that_holds_most_is_the_target() -> None:
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(2)
    cluster.propose(1, "x")
    cluster.stabilize()
    leader.transfer(None, cluster.now_us)
    assert leader.transferee == 3


def test_without_a_name_of_equals_the_preferred_one_is_the_target_else_the_lowest() -> None:
    for preferred, expected in ((3, 3), (0, 2)):
        cluster = Cluster(preferred=preferred)
        cluster.elect(1).transfer(None, cluster.now_us)
        assert cluster.raft(1).transferee == expected


def test_without_a_name_a_voter_that_is_silent_is_no_target() -> None:
    cluster = Cluster((1, 2, 3, 4, 5))
    leader = cluster.elect(1)
    for replica in (2, 3):
        cluster.isolate(replica)
    cluster.run(1.1, paused=(2, 3))
    leader.transfer(None, cluster.now_us)
    assert leader.transferee == 4


def test_a_leader_that_heard_nobody_lately_has_nobody_to_hand_over_to() -> None:
    cluster = Cluster((1,))
    leader = cluster.elect(1)
    with pytest.raises(Conflict, match="no other voter was heard"):
        leader.transfer(None, cluster.now_us)
    cluster.propose(1, "still here")


def test_no_change_of_membership_begins_or_goes_on_during_a_transfer() -> None:
    """The target would have to catch up with its steps."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.isolate(4)
    cluster.change(1, add=(4,))
    cluster.stabilize()
    cluster.isolate(3)
    cluster.propose(1, "x")
    leader.transfer(3, cluster.now_us)
    with pytest.raises(Conflict, match="handed over"):
        cluster.change(1, remove=(4,))
    cluster.heal()
    cluster.isolate(3)
    cluster.run(0.8)
    assert cluster.raft(4).log.last_index == 3
    assert leader.membership.staging == (4,)
    cluster.run(0.5)
    assert leader.membership.voters == (1, 2, 3, 4), "given up, so the change goes on"


def test_a_disk_that_hangs_at_the_target_keeps_it_from_leading() -> None:
    """PROTOCOL: such a host neither leads nor campaigns."""
    cluster = Cluster()
    leader = cluster.elect(1)
    cluster.nodes[3].disk_paused = True
    cluster.propose(1, "x")
    cluster.run(1.5)
    leader.transfer(3, cluster.now_us)
    cluster.run(2)
    assert cluster.leaders() == [1]


# The preferred leader


def test_the_preferred_replica_is_given_the_leadership_after_it_followed_for_a_while() -> None:
    """``preferred_after_ms``."""
    cluster = Cluster(preferred=3)
    cluster.elect(1)
    cluster.run(4.9)
    assert cluster.leaders() == [1]
    cluster.run(0.2)
    assert (cluster.leaders(), cluster.raft(3).term) == ([3], 2)
    cluster.run(20)
    assert (cluster.leaders(), cluster.raft(3).term) == ([3], 2)


def test_the_preferred_replica_must_follow_without_a_gap() -> None:
    cluster = Cluster(preferred=3)
    cluster.elect(1)
    cluster.run(4)
    cluster.isolate(3)
    cluster.run(0.7, paused=(3,))
    cluster.heal()
    cluster.run(4.5)
    assert cluster.leaders() == [1]
    cluster.run(1)
    assert cluster.leaders() == [3]


def test_a_preferred_replica_that_is_behind_or_dead_or_no_voter_costs_nothing() -> None:
    """No transfer begins, so no proposal waits."""
    cluster = Cluster(preferred=3)
    cluster.elect(1)
    cluster.isolate(3)
    cluster.run(12)
    cluster.nodes[3].disk_paused = True
    cluster.heal()
    cluster.propose(1, "x")
    for _ in range(120):
        cluster.run(0.05)
        cluster.propose(1, "x")
    stranger = Cluster(preferred=9)
    stranger.elect(1)
    stranger.run(12)
    for world in (cluster, stranger):
        assert not any(isinstance(what, TransferBegan) for _, what in world.trace)
        assert world.leaders() == [1]


def test_a_busy_preferred_replica_that_keeps_up_is_given_the_leadership() -> None:
    """It always lacks what was proposed a moment ago."""
    cluster = Cluster(preferred=3)
    cluster.elect(1)
    for _ in range(600):
        cluster.now_us += 10 * MILLISECOND_US
        for node in cluster.nodes.values():
            node.raft.tick(cluster.now_us)
        cluster.turn()
        cluster.deliver_all()
        if cluster.raft(1).role is Role.LEADER and not cluster.raft(1).transferee:
            cluster.propose(1, "x")
    assert cluster.leaders() == [3]


def test_a_preferred_replica_that_does_not_take_over_is_tried_less_and_less_often() -> None:
    """Each try costs proposals up to an election timeout."""
    cluster = Cluster(preferred=3)
    leader = cluster.elect(1)
    tries: list[int] = []
    for _ in range(6000):
        cluster.now_us += 10 * MILLISECOND_US
        leader.tick(cluster.now_us)
        cluster.turn()
        cluster.messages = [message for message in cluster.messages if not isinstance(message, TimeoutNow)]
        cluster.stabilize()
        if leader.transferee and (not tries or cluster.now_us - tries[-1] > 2_000_000):
            tries.append(cluster.now_us)
    waits = [round((later - earlier) / 1_000_000) for earlier, later in pairwise(tries)]
    assert waits == [11, 21]


def test_at_a_cold_start_the_preferred_replica_asks_first() -> None:
    """So leaders spread over hosts as they are meant to, in half an election timeout."""
    for seed in range(20):
        cluster = Cluster(preferred=seed % 3 + 1, seed=seed)
        cluster.run(0.4)
        assert cluster.leaders() == [seed % 3 + 1]
        assert cluster.raft(seed % 3 + 1).term == 1


def test_a_preferred_replica_that_starts_does_not_disturb_a_leader() -> None:
    """Its question is refused by those who hear one."""
    cluster = Cluster(preferred=3)
    cluster.elect(1)
    cluster.nodes[3].restart()
    before = len(cluster.trace)
    cluster.run(2)
    assert cluster.leaders() == [1]
    assert not any(isinstance(what, BecameLeader) for _, what in cluster.trace[before:])


def test_who_is_preferred_may_change() -> None:
    cluster = Cluster(config=RaftConfig(preferred_after_ms=100))
    cluster.elect(1)
    cluster.run(1)
    assert cluster.leaders() == [1]
    for node in cluster.nodes.values():
        node.raft.prefer(2)
    cluster.run(1)
    assert cluster.leaders() == [2]
