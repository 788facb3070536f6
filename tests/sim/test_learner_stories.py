"""Stories about learners whose parents lose what they follow (decision 0018)."""

from __future__ import annotations

from shardraft.config import HostConfig, Limits
from shardraft.sim.cluster import Cluster
from shardraft.types import HostId

LEAVES_SECONDS = Limits().parent_lacks_ms_max / 1000


def parent_of(cluster: Cluster, learner: HostId) -> HostId:
    """The parent of a learner, once it follows all shards."""

    def follows() -> bool:
        below = cluster.host(learner).tree.learner
        return below is not None and below.is_following

    cluster.run_until(follows)
    return cluster.host(learner).tree.parent


def test_a_shard_moves_off_the_parent_and_the_learners_follow_it() -> None:
    cluster = Cluster(spares=1, learners=(1, 1))
    cluster.write(b"k", b"1")
    cluster.settle()
    parent = parent_of(cluster, 101)
    assert parent in cluster.members()
    cluster.change_members(add=4, remove=parent)
    assert cluster.write(b"k", b"2") == 2
    cluster.settle(seconds_max=5 * LEAVES_SECONDS)
    assert parent_of(cluster, 101) != parent
    assert parent_of(cluster, 102) == 101, "its parent holds the shard all the time"
    assert cluster.get_everywhere(b"k") == b"2"


def test_a_dead_parent_is_replaced_and_the_learners_follow() -> None:
    """An operator's bad night."""
    cluster = Cluster(spares=1, learners=(2,))
    cluster.write(b"k", b"1")
    cluster.settle()
    parent = parent_of(cluster, 101)
    cluster.crash(parent)
    cluster.change_members(add=4, remove=parent)
    cluster.write(b"k", b"2")
    cluster.run_until(lambda: all(cluster.world.is_caught_up(learner) for learner in cluster.world.learners()))
    cluster.restart(parent)
    cluster.settle(seconds_max=30)
    assert cluster.get_everywhere(b"k") == b"2"


def test_where_no_host_holds_all_shards_a_learner_goes_from_one_to_the_next() -> None:
    cluster = Cluster(shards=3, spares=3, learners=(1,))
    for shard, leaves in ((1, 1), (2, 2), (3, 3)):
        cluster.elect(shard)
        cluster.change_members(add=leaves + 3, remove=leaves, shard=shard)
    keys = [b"k%d" % number for number in range(12)]
    for key in keys:
        assert cluster.write(key, b"v")
    cluster.settle(seconds_max=12 * LEAVES_SECONDS)
    assert [cluster.get_everywhere(key) for key in keys] == [b"v"] * len(keys)


def test_a_replica_made_in_vain_feeds_no_learner() -> None:
    """The newcomer was about to join, and that was given up while it was cut off: it never hears of it."""
    config = HostConfig(limits=Limits(log_bytes_max=4_000, flush_age_ms_max=100))
    cluster = Cluster(spares=1, learners=(1,), config=config)
    cluster.elect()
    cluster.write(b"k", b"1")
    cluster.ask_members(add=4)
    cluster.run_until(lambda: 4 in cluster.holders())
    cluster.isolate(4)
    cluster.change_members(remove=4)
    cluster.heal()
    cluster.crash(101)
    learner = cluster.process(101)
    learner.parents = tuple(cluster.process(host).endpoint for host in (4, 1))
    cluster.restart(101)
    cluster.write(b"k", b"2")
    assert parent_of(cluster, 101) == 1
    cluster.settle()
    assert not cluster.host(4).tree.feed.holds(1)
