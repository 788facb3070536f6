"""kill -9 under load: nothing acknowledged is lost, nothing is applied twice, and everybody comes back.

``workload`` checks, after each test, every acknowledged write with its revision on every replica.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.cluster import BEHIND_UNDER_LOAD_MAX, process_cluster
from tests.process.workload import workload

pytestmark = pytest.mark.slow

TREE = {101: (1, 2), 201: (101,)}
"""A learner of tier 1 and one of tier 2 below it."""


def test_a_killed_leader_loses_nothing_and_comes_back_by_replay(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster, workload(cluster) as load:
        leader = cluster.busiest_leader()
        cluster.processes[leader].kill()
        load.wait_for_more()
        cluster.start(leader)
        load.wait_for_more()


def test_a_killed_follower_is_not_missed_and_catches_up(tmp_path: Path) -> None:
    with process_cluster(tmp_path, shards=1) as cluster, workload(cluster) as load:
        follower = next(each for each in cluster.hosts if each != cluster.leader_of(1))
        cluster.processes[follower].kill()
        load.wait_for_more()
        cluster.start(follower)
        load.wait_for_more()


def test_all_hosts_killed_at_once_keep_what_they_acknowledged(tmp_path: Path) -> None:
    with process_cluster(tmp_path) as cluster, workload(cluster) as load:
        for host in cluster.hosts:
            cluster.processes[host].kill()
        cluster.start(*cluster.hosts)
        load.wait_for_more()


@pytest.mark.parametrize("killed", [101, 201])
def test_a_killed_learner_resumes_from_its_own_index(tmp_path: Path, killed: int) -> None:
    with process_cluster(tmp_path, learners=TREE) as cluster, workload(cluster) as load:
        cluster.processes[killed].kill()
        load.wait_for_more()
        cluster.start(killed)
        load.wait_for_more()
        cluster.wait_until_ready(BEHIND_UNDER_LOAD_MAX)
        assert not [event for event in cluster.processes[killed].events if event["event"] == "copy"]


def test_a_learner_follows_its_parent_through_the_parents_death(tmp_path: Path) -> None:
    with process_cluster(tmp_path, learners=TREE) as cluster, workload(cluster) as load:
        cluster.processes[1].kill()  # The learner of tier 1 moves on to host 2.
        load.wait_for_more()
        cluster.start(1)
        cluster.processes[101].heard("learner", about=2, what="attached at tier 1")
        load.wait_for_more()
