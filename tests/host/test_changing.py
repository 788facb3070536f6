"""A change of a shard's voters as an operator asks for it: the first step, what is refused, when it is answered."""

from __future__ import annotations

import pytest

from shardraft.errors import Conflict, InvalidArgument, NotLeader, Overloaded
from shardraft.kv.requests import ChangeMembersReply, ChangeMembersRequest, TransferRequest
from shardraft.types import Membership
from tests.host.cluster import Cluster, Process
from tests.host.test_administration import SHARD, refusal


@pytest.fixture
def cluster() -> Cluster:
    cluster = Cluster()
    cluster.run(3)
    return cluster


def change(cluster: Cluster, process: Process, request_id: int, *, add: int = 0, remove: int = 0) -> None:
    cluster.ask(process, ChangeMembersRequest(request_id, SHARD, 5_000, add, remove))
    cluster.settle()


def begun(cluster: Cluster, process: Process, request_id: int) -> Membership:
    reply = cluster.reply_to(process, request_id)
    assert isinstance(reply, ChangeMembersReply), reply
    return reply.membership


def test_a_host_to_add_is_staging_first_under_a_number_that_nobody_had(cluster: Cluster) -> None:
    first = cluster.processes[1]
    change(cluster, first, 7, add=9)
    membership = begun(cluster, first, 7)
    assert (membership.voters, membership.staging) == ((1, 2, 3), (4,))
    assert membership.host_of(4) == 9


def test_asking_again_for_what_is_on_its_way_changes_nothing(cluster: Cluster) -> None:
    first = cluster.processes[1]
    change(cluster, first, 7, add=9, remove=3)
    change(cluster, first, 8, add=9, remove=3)
    assert begun(cluster, first, 7) == begun(cluster, first, 8)
    assert begun(cluster, first, 7).leaving == (3,)


def test_asking_for_what_is_so_already_changes_nothing(cluster: Cluster) -> None:
    first = cluster.processes[1]
    before = first.host.voters[SHARD].raft.log.last_index
    for number, (add, remove) in enumerate([(2, 0), (0, 9), (2, 9)], start=7):
        change(cluster, first, number, add=add, remove=remove)
        assert begun(cluster, first, number) == cluster.shard_map.shards[0].membership
    assert first.host.voters[SHARD].raft.log.last_index == before


def test_a_second_change_is_refused_while_one_is_under_way(cluster: Cluster) -> None:
    first = cluster.processes[1]
    change(cluster, first, 7, add=9)
    for number, (add, remove) in enumerate([(8, 0), (9, 3), (0, 3)], start=8):
        change(cluster, first, number, add=add, remove=remove)
        error = refusal(cluster, first, number)
        assert isinstance(error, Conflict)
        assert (error.applied, error.shard) == ("no", SHARD)


def test_removing_a_host_that_is_staging_gives_its_change_up(cluster: Cluster) -> None:
    first = cluster.processes[1]
    change(cluster, first, 7, add=9)
    change(cluster, first, 8, remove=9)
    assert begun(cluster, first, 8).staging == ()
    change(cluster, first, 9, add=9)
    assert begun(cluster, first, 9).staging == (5,), "its number is never given again"


def test_a_change_that_would_lose_the_quorum_is_refused(cluster: Cluster) -> None:
    first = cluster.processes[1]
    del cluster.processes[3]
    cluster.run(3)
    change(cluster, first, 7, remove=2)
    error = refusal(cluster, first, 7)
    assert isinstance(error, Conflict)
    assert "host 3 would be silent: the shard would lose its quorum" in str(error)
    change(cluster, first, 8, remove=3)
    assert begun(cluster, first, 8).voters == (1, 2)


@pytest.mark.parametrize(("add", "remove"), [(0, 0), (2, 2), (2, 3), (8, 9)])
def test_a_change_that_makes_no_sense_is_refused(cluster: Cluster, add: int, remove: int) -> None:
    """Nobody named; the same host twice; a host that votes already in the place of another; one that is not there."""
    first = cluster.processes[1]
    change(cluster, first, 7, add=add, remove=remove)
    assert isinstance(refusal(cluster, first, 7), InvalidArgument)


def test_the_last_voter_is_not_removed() -> None:
    cluster = Cluster(hosts=1)
    cluster.run(3)
    change(cluster, cluster.processes[1], 7, remove=1)
    assert isinstance(refusal(cluster, cluster.processes[1], 7), InvalidArgument)


def test_a_change_is_answered_when_its_first_step_is_committed_and_not_before(cluster: Cluster) -> None:
    first = cluster.processes[1]
    for host in (2, 3):
        cluster.processes[host].is_syncing = False
    change(cluster, first, 7, add=9)
    assert cluster.reply_to(first, 7) is None
    cluster.processes[2].is_syncing = True
    cluster.run(0.2)
    assert begun(cluster, first, 7).staging == (4,)


def test_a_leader_that_loses_office_does_not_know_what_became_of_the_change(cluster: Cluster) -> None:
    first = cluster.processes[1]
    del cluster.processes[2], cluster.processes[3]
    change(cluster, first, 7, add=9)
    cluster.run(3)
    error = refusal(cluster, first, 7)
    assert isinstance(error, NotLeader)
    assert error.applied == "unknown"


def test_a_follower_names_the_leader(cluster: Cluster) -> None:
    second = cluster.processes[2]
    change(cluster, second, 7, add=9)
    error = refusal(cluster, second, 7)
    assert isinstance(error, NotLeader)
    assert error.leader == 1


def test_a_leader_that_hands_over_asks_to_be_asked_again(cluster: Cluster) -> None:
    first = cluster.processes[1]
    del cluster.processes[3]
    cluster.ask(first, TransferRequest(7, SHARD, 5_000, host=3))
    change(cluster, first, 8, add=9)
    assert isinstance(refusal(cluster, first, 8), Overloaded)
