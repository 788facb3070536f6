"""Stories of full copies: on bad links, under writers that do not wait, from sources that fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shardraft.config import HostConfig, Limits
from shardraft.sim.cluster import Cluster
from shardraft.sim.report import SENT_BY_FOLLOWER
from shardraft.types import HostId

WRITES_WHILE_AWAY = 500
"""About 100 KB of log, three times what is held for a follower that is away in these stories."""


def config_of(**limits: int) -> HostConfig:
    """Logs of 3 KB, held up to 30 KB, and two seconds for the copy of 300 keys."""
    chosen = {"log_bytes_max": 3_000, "log_held_bytes_max": 30_000, "copy_bytes_per_second_max": 20_000, **limits}
    return HostConfig(limits=Limits(flush_age_ms_max=100, **chosen))


class Story:
    """A cluster with a writer that never waits for anybody but the leader."""

    def __init__(self, seed: int = 1, *, hosts: int = 3, learners: tuple[int, ...] = (), **limits: int) -> None:
        self.cluster = Cluster(hosts=hosts, seed=seed, learners=learners, config=config_of(**limits))
        self.written = 0
        self.leader = self.cluster.elect()

    def write(self, count: int) -> None:
        """So many writes of a hundred bytes to three hundred keys, one after the other."""
        for _ in range(count):
            self.written += 1
            call = self.cluster.put(b"key-%d" % (self.written % 300), b"." * 100)
            self.cluster.wait(call)
            assert call.error is None

    def write_until(self, condition: Callable[[], bool], *, seconds_max: float = 20.0) -> None:
        """Keep writing until ``condition`` holds."""
        limit_ms = self.cluster.now_ms + 1000 * seconds_max
        while not condition():
            assert self.cluster.now_ms < limit_ms, "it did not come to pass"
            self.write(1)

    def fall_behind(self, behind: HostId) -> None:
        """``behind`` is away for so long that what it lacks is gone."""
        self.cluster.settle()
        self.cluster.crash(behind)
        self.write(WRITES_WHILE_AWAY)
        self.cluster.restart(behind)

    def has_caught_up(self, node: HostId) -> bool:
        """Whether ``node`` has, but for the last few, all entries that are committed."""
        replica = self.cluster.host(node).replicas[1]
        return replica.machine.last_applied >= self.cluster.world.invariants.commit_index(1) - 5

    @property
    def sent_by_followers(self) -> int:
        return self.cluster.world.happened.get(SENT_BY_FOLLOWER, 0)

    @property
    def copies_installed(self) -> int:
        return self.cluster.world.copies_installed


@pytest.mark.parametrize("seed", range(3))
def test_a_follower_under_a_fast_writer_needs_one_copy_and_then_lives_on_the_log(seed: int) -> None:
    """While the copy is on its way a hundred times the log's limit is written; no second one is needed for it."""
    story = Story(seed)
    behind = story.cluster.followers()[0]
    story.fall_behind(behind)
    story.write_until(lambda: story.has_caught_up(behind))
    story.write(1000)
    assert story.has_caught_up(behind)
    assert (story.copies_installed, story.sent_by_followers) == (1, 1)


@pytest.mark.parametrize("seed", range(3))
def test_a_learner_under_a_fast_writer_needs_one_copy_and_then_lives_on_the_log(seed: int) -> None:
    story = Story(seed, learners=(1,))
    (learner,) = story.cluster.learners()
    story.fall_behind(learner)
    story.write_until(lambda: story.has_caught_up(learner))
    story.write(1000)
    assert story.has_caught_up(learner)
    assert story.copies_installed == 1


def test_a_follower_that_is_away_for_a_moment_needs_no_copy() -> None:
    """Ten times the log's limit is written meanwhile."""
    story = Story()
    behind = story.cluster.followers()[0]
    story.cluster.crash(behind)
    story.write(130)
    story.cluster.restart(behind)
    story.cluster.settle()
    assert story.copies_installed == 0


def test_a_dead_follower_does_not_pin_the_log() -> None:
    story = Story(log_held_bytes_max=1 << 20, log_hold_ms_max=2_000)
    story.cluster.crash(story.cluster.followers()[0])
    story.write(130)
    log = story.cluster.host(story.leader).voters[1].log
    assert log.log_bytes > 20_000
    story.cluster.run(seconds=2)
    story.write(1)
    assert log.log_bytes <= 3_000


def test_the_leader_takes_over_when_the_follower_that_sends_a_copy_dies() -> None:
    story = Story(copy_bytes_per_second_max=5_000, copy_order_ms_max=1_000)
    behind, source = story.cluster.followers()
    story.fall_behind(behind)
    outbound = story.cluster.host(source).copying
    story.write_until(lambda: outbound.index_on_its_way_to(1, behind) > 0)
    story.cluster.crash(source)
    story.cluster.run_until(lambda: story.copies_installed > 0, seconds_max=60)
    assert story.sent_by_followers == 0
    story.cluster.restart(source)
    story.cluster.run_until(lambda: story.has_caught_up(behind) and story.has_caught_up(source), seconds_max=60)
