"""Stories about idle groups: what a dead host of many shards costs the others, and its return."""

from __future__ import annotations

from shardraft.sim.cluster import Cluster
from shardraft.types import HostId, ShardId, Term

SHARDS = 40


def terms(cluster: Cluster, node: HostId) -> dict[ShardId, Term]:
    return {shard: voter.raft.term for shard, voter in cluster.host(node).voters.items()}


def everybody_rests(cluster: Cluster) -> bool:
    rafts = [
        voter.raft
        for process in cluster.world.processes.values()
        if process.host
        for voter in process.host.voters.values()
    ]
    return all(raft.leading.rest.resting if raft.leading else raft.resting_on is not None for raft in rafts)


def settled_cluster() -> Cluster:
    cluster = Cluster(shards=SHARDS)
    cluster.settle()
    cluster.run_until(lambda: everybody_rests(cluster))
    return cluster


def test_a_host_that_dies_and_returns_costs_one_election_per_shard_that_it_led() -> None:
    cluster = settled_cluster()
    dead = cluster.elect()
    survivor = next(node for node in (1, 2, 3) if node != dead)
    led = set(cluster.host(dead).leads())
    before = terms(cluster, survivor)
    cluster.crash(dead)
    cluster.run(seconds=3)
    after = terms(cluster, survivor)
    assert all(after[shard] > before[shard] for shard in led)
    assert all(after[shard] == before[shard] for shard in set(before) - led), "nobody else had a reason to ask"
    assert sum(after[shard] - before[shard] for shard in led) <= 2 * len(led)
    cluster.run_until(lambda: everybody_rests(cluster))
    cluster.restart(dead)
    cluster.run(seconds=3)
    assert terms(cluster, survivor) == after, "its return costs no election at all"
    cluster.run_until(lambda: set(cluster.host(dead).leads()) == led and everybody_rests(cluster))


def test_a_leader_that_is_cut_off_while_its_groups_rest_is_replaced_and_follows() -> None:
    cluster = settled_cluster()
    cut = cluster.elect()
    led = set(cluster.host(cut).leads())
    cluster.isolate(cut)
    cluster.run(seconds=3)
    assert cluster.host(cut).leads() == ()
    heirs = [node for node in (1, 2, 3) if node != cut]
    assert led <= {shard for node in heirs for shard in cluster.host(node).leads()}
    cluster.heal()
    cluster.settle()
    cluster.write(b"k", b"v")
    assert cluster.read(b"k") == b"v"
    cluster.run_until(lambda: everybody_rests(cluster))
