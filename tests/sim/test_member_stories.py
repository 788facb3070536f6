"""Stories about members who come and go (section 6; thesis 4): the words in quotes are the paper's."""

from __future__ import annotations

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.errors import Conflict, InvalidArgument
from shardraft.kv.requests import ErrorReply
from shardraft.sim.cluster import Cluster
from shardraft.types import HostId
from tests.sim.test_stories import SMALL_LOG, fill

ELECTION_TIMEOUT_SECONDS = 1.0


def error_of(cluster: Cluster, request: int) -> Exception:
    answer = cluster.answer(request)
    assert isinstance(answer, ErrorReply), answer
    return answer.error


def a_follower(cluster: Cluster) -> HostId:
    cluster.elect()
    return cluster.followers()[0]


def test_a_voter_is_added_while_the_shard_goes_on_serving() -> None:
    """ "the cluster to continue operating normally during the configuration change" (section 6)."""
    cluster = Cluster(spares=1)
    assert cluster.write(b"before", b"1") == 1
    request = cluster.ask_members(add=4)
    writes = [cluster.put(b"during-%d" % number, b"v") for number in range(20)]
    cluster.wait(*writes)
    assert all(write.error is None for write in writes)
    assert not isinstance(cluster.answer(request), ErrorReply)
    cluster.run_until(lambda: cluster.members() == [1, 2, 3, 4])
    cluster.settle()
    assert cluster.holders() == [1, 2, 3, 4]
    assert cluster.get_everywhere(b"before") == b"1"
    assert cluster.get_everywhere(b"during-19") == b"v"


def test_a_new_server_catches_up_before_it_counts() -> None:
    """ "a new phase ... in which the new servers join the cluster as non-voting members": what it lacks, it
    gets as a copy, and until then a majority is one of the old voters."""
    cluster = Cluster(spares=1, config=SMALL_LOG)
    fill(cluster, 60)
    cluster.isolate(4)
    request = cluster.ask_members(add=4)
    cluster.answer(request)
    cluster.run(seconds=5)
    assert cluster.write(b"k", b"v"), "the new one is silent, and nobody waits for it"
    membership = cluster.world.invariants.members.committed(1)
    assert [membership.host_of(replica) for replica in membership.staging] == [4]
    cluster.heal()
    cluster.run_until(lambda: not cluster.world.invariants.members.committed(1).staging, seconds_max=30)
    cluster.settle()
    assert cluster.world.copies_installed > 0
    assert cluster.get_everywhere(b"k") == b"v"


def test_a_leader_that_is_removed_steps_down_once_that_is_committed_and_is_gone() -> None:
    """ "the leader steps down (returns to follower state) once it has committed the Cnew log entry"."""
    cluster = Cluster()
    cluster.write(b"k", b"v")
    leader = cluster.elect()
    cluster.ask_members(remove=leader)
    successor = cluster.elect_other_than(leader)
    assert cluster.write(b"k", b"w") == 2
    cluster.settle()
    assert leader not in cluster.members()
    assert leader not in cluster.holders()
    assert successor in cluster.holders()
    assert cluster.get_everywhere(b"k") == b"w"


def test_a_leader_replaces_itself() -> None:
    cluster = Cluster(spares=1)
    leader = cluster.elect()
    cluster.write(b"k", b"v")
    cluster.change_members(add=4, remove=leader)
    cluster.settle()
    assert cluster.members() == [host for host in (1, 2, 3, 4) if host != leader]
    assert cluster.get_everywhere(b"k") == b"v"


def test_a_dead_host_is_replaced_and_another_may_die_after_that() -> None:
    """The shard had two of three voters left; with the new one it bears a loss again."""
    cluster = Cluster(spares=1)
    dead = a_follower(cluster)
    cluster.write(b"k", b"v")
    cluster.crash(dead)
    cluster.change_members(add=4, remove=dead)
    assert dead not in cluster.members()
    cluster.crash(a_follower(cluster))
    assert cluster.write(b"k", b"w") == 2


def test_a_removed_host_that_returns_disturbs_nobody_and_its_replica_goes() -> None:
    """ "removed servers (those not in Cnew) can disrupt the cluster": not this one."""
    cluster = Cluster(spares=1, config=SMALL_LOG)
    gone = a_follower(cluster)
    fill(cluster, 5)
    cluster.crash(gone)
    cluster.change_members(add=4, remove=gone)
    fill(cluster, 60, first=5)
    leader = cluster.elect()
    term = cluster.term(leader)
    cluster.restart(gone)
    assert gone in cluster.holders()
    cluster.run(seconds=10 * ELECTION_TIMEOUT_SECONDS)
    assert (cluster.leader(), cluster.term(leader)) == (leader, term)
    assert gone not in cluster.holders()
    assert cluster.write(b"k", b"v")


def test_a_removed_host_is_told_although_its_own_configuration_lacks_the_leader() -> None:
    """It goes by a configuration that was never committed, and so never asks the leader, who would tell it."""
    cluster = Cluster(spares=1)
    cluster.change_members(add=4)
    gone = cluster.elect()
    rival = cluster.followers()[0]
    cluster.isolate(gone)
    assert cluster.world.operator.change_members(1, remove=rival) is not None
    cluster.elect_other_than(gone)
    if cluster.leader() != rival:
        cluster.transfer(rival)
        cluster.run_until(lambda: cluster.leader() == rival)
    cluster.write(b"k", b"v")
    cluster.change_members(remove=gone)
    cluster.run(seconds=5 * ELECTION_TIMEOUT_SECONDS)
    assert gone in cluster.holders()
    cluster.heal()
    cluster.run(seconds=10 * ELECTION_TIMEOUT_SECONDS)
    assert cluster.leader() == rival
    assert gone not in cluster.holders()


def test_a_host_comes_back_as_another_replica_of_the_shard() -> None:
    cluster = Cluster(spares=1)
    host = a_follower(cluster)
    cluster.change_members(add=4, remove=host)
    cluster.change_members(add=host, remove=4)
    cluster.write(b"k", b"v")
    cluster.settle()
    assert cluster.members() == [1, 2, 3]
    numbers = [member.replica for member in cluster.world.invariants.members.committed(1).members]
    assert sorted(numbers)[-1] == 5, "1 to 3 and 4 were given before"
    assert cluster.get_everywhere(b"k") == b"v"


def test_another_change_is_refused_while_one_is_in_flight() -> None:
    cluster = Cluster(spares=2)
    cluster.elect()
    cluster.isolate(4)
    assert not isinstance(cluster.answer(cluster.ask_members(add=4)), ErrorReply)
    assert isinstance(error_of(cluster, cluster.ask_members(add=5)), Conflict)
    assert cluster.members() == [1, 2, 3, 4]
    cluster.heal()
    cluster.run_until(lambda: not cluster.world.invariants.members.committed(1).staging)
    cluster.change_members(add=5)
    assert cluster.members() == [1, 2, 3, 4, 5]


def test_a_change_that_cannot_come_to_its_end_is_given_up() -> None:
    cluster = Cluster(spares=2)
    cluster.elect()
    cluster.crash(4)
    cluster.answer(cluster.ask_members(add=4))
    cluster.change_members(remove=4)
    assert cluster.members() == [1, 2, 3]
    cluster.change_members(add=5)
    cluster.restart(4)
    cluster.settle()
    assert cluster.members() == [1, 2, 3, 5]


def test_a_change_goes_on_under_the_next_leader() -> None:
    """ "All there is to know about a change lies in the log": the leader that began it dies before its end."""
    cluster = Cluster(spares=1)
    leader = cluster.elect()
    cluster.isolate(4)
    cluster.answer(cluster.ask_members(add=4))
    cluster.crash(leader)
    cluster.elect_other_than(leader)
    cluster.heal()
    cluster.run_until(lambda: not cluster.world.invariants.members.committed(1).staging)
    cluster.settle()
    assert cluster.members() == [1, 2, 3, 4]


def test_a_configuration_that_was_never_committed_is_taken_back() -> None:
    """ "a server always uses the latest configuration in its log, regardless of whether the entry is committed":
    the next leader's log does not have it."""
    cluster = Cluster(spares=1)
    cluster.write(b"j", b"v")
    leader = cluster.elect()
    cluster.isolate(leader)
    cluster.ask_members(add=4)
    cluster.run(seconds=0.1)
    assert cluster.host(leader).voters[1].raft.membership.replica_on(4), "it is in effect where it was appended"
    cluster.elect_other_than(leader)
    cluster.write(b"k", b"v")
    cluster.heal()
    cluster.settle()
    assert cluster.members() == [1, 2, 3]
    assert cluster.host(leader).voters[1].raft.membership.replica_on(4) == 0


def test_what_makes_no_sense_is_refused() -> None:
    cluster = Cluster(hosts=1)
    cluster.elect()
    assert isinstance(error_of(cluster, cluster.ask_members(remove=1)), InvalidArgument)
    assert cluster.write(b"k", b"v") == 1


def test_a_change_that_would_leave_no_majority_alive_is_refused() -> None:
    cluster = Cluster(spares=1)
    dead = a_follower(cluster)
    living = next(host for host in cluster.followers() if host != dead)
    cluster.crash(dead)
    cluster.run(seconds=3 * ELECTION_TIMEOUT_SECONDS)
    assert isinstance(error_of(cluster, cluster.ask_members(remove=living)), Conflict)
    assert cluster.write(b"k", b"v") == 1


@pytest.mark.parametrize("seed", range(3))
def test_one_voter_becomes_three_and_one_again(seed: int) -> None:
    cluster = Cluster(hosts=1, spares=2, seed=seed, config=HostConfig(limits=Limits(flush_age_ms_max=100)))
    cluster.write(b"k", b"v")
    for host in (2, 3):
        cluster.change_members(add=host)
    cluster.settle()
    cluster.transfer(2)
    cluster.elect_other_than(1)
    assert cluster.write(b"k", b"w") == 2
    cluster.crash(1)
    assert cluster.read(b"k") == b"w"
    cluster.restart(1)
    cluster.settle()
    for host in (1, 2):
        cluster.change_members(remove=host)
    cluster.settle()
    assert cluster.holders() == [3]
    assert cluster.write(b"k", b"x") == 3
    cluster.crash(3)
    cluster.restart(3)
    assert cluster.read(b"k") == b"x"
