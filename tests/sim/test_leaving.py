"""Stories of leaders that leave office, come back to it, or hold a lease on it."""

from __future__ import annotations

from shardraft.config import HostConfig, RaftConfig
from shardraft.host.events import StopAsked
from shardraft.sim.cluster import Cluster

LEASES = HostConfig(raft=RaftConfig(lease_ms=400))
HAND_OVER_MS_MAX = 50
"""A handover is a round to the target and an election: far below an election timeout, which no story here waits for."""


def test_a_write_after_a_leader_was_asked_to_stop_waits_for_no_election_timeout() -> None:
    cluster = Cluster(hosts=3)
    leader = cluster.elect()
    cluster.write(b"k", b"before")
    began_ms = cluster.now_ms
    cluster.process(leader).take(StopAsked)
    cluster.run_until(lambda: cluster.host(leader).departure.is_done)
    cluster.crash(leader)
    assert cluster.elect_other_than(leader)
    assert cluster.now_ms - began_ms <= HAND_OVER_MS_MAX
    assert cluster.write(b"k", b"after") == 2


def test_a_leader_that_stops_hands_over_to_somebody_alive() -> None:
    cluster = Cluster(hosts=5)
    leader = cluster.elect()
    cluster.write(b"k", b"v")
    dead = cluster.followers()[:2]
    cluster.crash(*dead)
    cluster.run(seconds=1.5)
    cluster.process(leader).take(StopAsked)
    cluster.run_until(lambda: cluster.host(leader).departure.is_done, seconds_max=2)
    assert not cluster.leads(leader)
    assert cluster.elect_other_than(leader) not in dead


def test_a_leader_that_is_cut_off_gives_the_handover_up() -> None:
    cluster = Cluster(hosts=3)
    leader = cluster.elect()
    cluster.write(b"k", b"v")
    cluster.isolate(leader)
    cluster.process(leader).take(StopAsked)
    cluster.run_until(lambda: not cluster.leads(leader), seconds_max=3)
    cluster.heal()
    cluster.settle()
    assert cluster.get_everywhere(b"k") == b"v"


def test_the_preferred_host_leads_again_once_it_is_back() -> None:
    cluster = Cluster(hosts=3, shards=3)
    cluster.settle()
    preferred = {shard: cluster.elect(shard) for shard in (1, 2, 3)}
    assert sorted(preferred.values()) == [1, 2, 3]
    cluster.crash(2)
    cluster.run(seconds=3)
    assert 2 not in {cluster.elect(shard) for shard in preferred}
    cluster.restart(2)
    wait_seconds = HostConfig().raft.preferred_after_ms / 1000
    cluster.run(seconds=wait_seconds + 2)
    assert {shard: cluster.elect(shard) for shard in preferred} == preferred


def test_under_a_lease_a_leader_that_is_cut_off_answers_until_it_ends_and_then_no_more() -> None:
    cluster = Cluster(hosts=3, config=LEASES)
    leader = cluster.elect()
    cluster.write(b"k", b"old")
    cluster.run(seconds=1)
    cluster.isolate(leader)
    early = cluster.get(b"k", via=leader, timeout_seconds=0.2)
    cluster.wait(early)
    assert early.values == [b"old"]
    cluster.elect_other_than(leader)
    cluster.run(seconds=1)
    assert cluster.write(b"k", b"new") == 2
    late = cluster.get(b"k", via=leader, timeout_seconds=1)
    cluster.wait(late)
    assert late.error is not None


def test_without_a_lease_a_leader_that_is_cut_off_answers_nothing() -> None:
    cluster = Cluster(hosts=3)
    leader = cluster.elect()
    cluster.write(b"k", b"old")
    cluster.run(seconds=1)
    cluster.isolate(leader)
    read = cluster.get(b"k", via=leader, timeout_seconds=0.2)
    cluster.wait(read)
    assert read.error is not None
