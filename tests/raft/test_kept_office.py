"""A leader that an operator asked for stays although another is preferred (decision 0012)."""

from __future__ import annotations

from tests.raft.cluster import Cluster


def test_a_leader_that_an_operator_asked_for_keeps_the_office_from_the_preferred_replica() -> None:
    """Decision 0012: as long as it leads."""
    cluster = Cluster(preferred=3)
    cluster.elect(3).transfer(2, cluster.now_us, keep=True)
    cluster.stabilize()
    cluster.run(60)
    assert (cluster.leaders(), cluster.raft(2).term) == ([2], 2)


def test_without_keep_the_preferred_replica_takes_over_again() -> None:
    cluster = Cluster(preferred=3)
    cluster.elect(3).transfer(2, cluster.now_us)
    cluster.stabilize()
    assert cluster.leaders() == [2]
    cluster.run(6)
    assert cluster.leaders() == [3]


def test_the_office_is_not_kept_beyond_the_next_leader() -> None:
    """Who led by order and leads again by chance hands over to the preferred replica like anybody."""
    cluster = Cluster(preferred=3)
    cluster.elect(3).transfer(2, cluster.now_us, keep=True)
    cluster.stabilize()
    cluster.raft(2).transfer(1, cluster.now_us)
    cluster.stabilize()
    assert cluster.leaders() == [1]
    cluster.raft(1).transfer(2, cluster.now_us)
    cluster.stabilize()
    assert cluster.leaders() == [2]
    cluster.run(6)
    assert cluster.leaders() == [3]


def test_a_restart_forgets_that_the_office_was_to_be_kept() -> None:
    cluster = Cluster(preferred=3)
    cluster.elect(3).transfer(2, cluster.now_us, keep=True)
    cluster.stabilize()
    cluster.nodes[2].restart()
    cluster.run(12)
    assert cluster.leaders() == [3]


def test_an_operators_word_counts_for_a_transfer_that_is_under_way_as_well() -> None:
    cluster = Cluster(preferred=3)
    leader = cluster.elect(1)
    cluster.propose(1, "x")
    leader.transfer(2, cluster.now_us)
    leader.transfer(2, cluster.now_us, keep=True)
    cluster.stabilize()
    cluster.run(12)
    assert cluster.leaders() == [2]


def test_a_leader_may_be_told_to_stay() -> None:
    cluster = Cluster(preferred=3)
    cluster.elect(1).keep_office()
    cluster.run(12)
    assert cluster.leaders() == [1]
