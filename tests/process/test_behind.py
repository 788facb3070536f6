"""Who was away while the log was compacted gets a copy of the shard, and goes on from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.process.cluster import ProcessCluster, process_cluster
from tests.process.workload import Workload, workload

pytestmark = pytest.mark.slow

SHORT_LOGS = """
[limits]
log_bytes_max = 50000
log_held_bytes_max = 50000
flush_age_ms_max = 100
copy_chunk_bytes = 4096
"""


def wait_until_compacted(cluster: ProcessCluster, load: Workload, source: int, behind: int) -> None:
    """Returns once ``source`` no longer holds the entry that ``behind``, which is killed here, needs next."""
    last_index = cluster.shard_status(behind, 1).last_index
    cluster.processes[behind].kill()
    eventually(lambda: cluster.shard_status(source, 1).first_index > last_index + 1)
    load.wait_for_more()


@pytest.mark.parametrize("behind", ["a follower", "a learner", "a learner of tier 2"])
def test_a_process_that_missed_compacted_entries_gets_a_copy(tmp_path: Path, behind: str) -> None:
    learners = {"a follower": {}, "a learner": {101: (1,)}, "a learner of tier 2": {101: (1,), 201: (101,)}}[behind]
    with process_cluster(tmp_path, shards=1, learners=learners, limits=SHORT_LOGS) as cluster:
        leader = cluster.leader_of(1)
        follower = next(each for each in cluster.hosts if each != leader)
        source, away = {
            "a follower": (leader, follower),
            "a learner": (1, 101),
            "a learner of tier 2": (101, 201),
        }[behind]
        with workload(cluster) as load:
            wait_until_compacted(cluster, load, source, away)
            cluster.start(away)
            installed = eventually(lambda: [e for e in cluster.processes[away].events if is_installed(e)])
            assert installed[0]["shard"] == 1
            load.wait_for_more()


def is_installed(event: dict[str, object]) -> bool:
    return event["event"] == "copy" and str(event["what"]).startswith("installed a copy at index")
