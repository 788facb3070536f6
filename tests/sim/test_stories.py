"""Short stories about a whole cluster: what a person who runs one relies on."""

from __future__ import annotations

from shardraft.config import HostConfig, Limits, RaftConfig
from shardraft.errors import DeadlineExceeded
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.sim.cluster import Cluster
from shardraft.types import HostId, Index
from shardraft_router.core import RouterLimits

ELECTION_TIMEOUT_SECONDS = 1.0
SMALL_LOG = HostConfig(limits=Limits(log_bytes_max=3_000, log_held_bytes_max=6_000, flush_age_ms_max=100))


def fill(cluster: Cluster, count: int, *, first: int = 0, via: HostId | None = None) -> None:
    """Write ``count`` keys of a hundred bytes, one after the other: as many log entries."""
    for number in range(first, first + count):
        call = cluster.put(b"filler-%d" % number, b"." * 100, via=via)
        cluster.wait(call)
        assert call.error is None


def test_a_shard_full_of_sessions_makes_room_and_a_client_that_slept_goes_on_in_a_new_one() -> None:
    """Programs that come and go, each with a session of its own, beside one that sleeps meanwhile."""
    limits = Limits(sessions_max=4, deadline_ms_max=2_000, session_idle_ms_min=2_100)
    cluster = Cluster(config=HostConfig(limits=limits))
    leader = cluster.elect()
    assert cluster.write(b"sleeper", b"before") == 1
    for number in range(12):
        client = cluster.world.add_client(RouterLimits())
        call = client.core.write(PUT, b"k%d" % number, b"v", ANY_REVISION, client.clock.now_us() + 2_000_000)
        call.waiter = None
        client.pump()
        cluster.wait(call)
        assert call.error is None
        cluster.run(seconds=1)
    assert cluster.host(leader).replicas[1].machine.session_count == 4
    assert cluster.write(b"sleeper", b"after") == 14
    cluster.settle()
    assert cluster.get_everywhere(b"sleeper") == b"after"


def wait_for_a_copy(cluster: Cluster) -> None:
    cluster.run_until(lambda: cluster.world.copies_installed > 0, seconds_max=30)


def flushed(cluster: Cluster, host: HostId) -> Index:
    return cluster.host(host).replicas[1].machine.flushed_index


def test_a_cluster_elects_a_leader_and_every_replica_applies_what_is_written() -> None:
    cluster = Cluster(learners=(1, 1))
    assert cluster.write(b"k", b"v") == 1
    cluster.settle()
    assert cluster.read(b"k") == b"v"
    assert cluster.get_everywhere(b"k") == b"v"


def test_an_isolated_leader_cannot_commit_and_its_tail_is_overwritten() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.write(b"before", b"x")
    cluster.isolate(leader)
    write = cluster.put(b"k", b"v", via=leader, timeout_seconds=3)
    cluster.run(seconds=5)
    assert isinstance(write.error, DeadlineExceeded)
    assert write.error.applied == "unknown"
    successor = cluster.elect_other_than(leader)
    tail = cluster.host(leader).voters[1].log
    held_in_vain = tail.last_index
    assert tail.term_at(held_in_vain) == 1
    cluster.write(b"after", b"y")
    cluster.heal()
    cluster.settle()
    assert cluster.get_everywhere(b"k") is None
    assert cluster.get_everywhere(b"after") == b"y"
    log = cluster.host(leader).voters[1].log
    assert log.term_at(held_in_vain) == cluster.term(successor) > 1


def test_an_isolated_leader_answers_no_linearizable_read() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.write(b"k", b"old")
    cluster.isolate(leader)
    cluster.elect_other_than(leader)
    cluster.write(b"k", b"new")
    stale = cluster.get(b"k", via=leader, timeout_seconds=3)
    cluster.run(seconds=4)
    assert isinstance(stale.error, DeadlineExceeded)


def test_an_isolated_leader_steps_down_within_two_election_timeouts() -> None:
    """Check-quorum (thesis 6.2)."""
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    cluster.isolate(leader)
    assert cluster.leads(leader)
    cluster.run(seconds=2 * ELECTION_TIMEOUT_SECONDS)
    assert not cluster.leads(leader)


def test_a_host_that_was_isolated_disturbs_nobody_when_it_comes_back() -> None:
    """Pre-vote (thesis 9.6): it asked in vain and raised no term."""
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    term = cluster.term(leader)
    stranger = cluster.followers()[0]
    cluster.isolate(stranger)
    cluster.run(seconds=10)
    assert cluster.term(stranger) == term
    cluster.heal()
    cluster.settle()
    cluster.run(seconds=3)
    assert cluster.leader() == leader
    assert cluster.term(leader) == term


def test_a_follower_that_hears_nothing_does_not_depose_a_leader_that_others_hear() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    term = cluster.term(leader)
    deaf, other = cluster.followers()
    cluster.cut_one_way(leader, deaf)
    cluster.cut_one_way(other, deaf)
    cluster.run(seconds=10)
    assert cluster.leader() == leader
    assert cluster.term(leader) == term
    cluster.write(b"k", b"v")


def test_a_leader_that_nobody_hears_is_replaced() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    cluster.cut_one_way(leader, *cluster.followers())
    cluster.elect_other_than(leader)
    cluster.run(seconds=2 * ELECTION_TIMEOUT_SECONDS)
    assert not cluster.leads(leader)
    cluster.write(b"k", b"v")


def test_a_leader_that_hears_nobody_steps_down_and_another_takes_over() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    for follower in cluster.followers():
        cluster.cut_one_way(follower, leader)
    cluster.elect_other_than(leader)
    cluster.write(b"k", b"v")


def test_three_hosts_in_a_row_keep_one_leader() -> None:
    """Partial connectivity: two hosts cannot reach each other, both reach the third, and writes go on."""
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    cluster.world.cut([(leader, cluster.followers()[0]), (cluster.followers()[0], leader)])
    cluster.run(seconds=5)
    term = max(cluster.term(node) for node in (1, 2, 3))
    cluster.run(seconds=20)
    assert max(cluster.term(node) for node in (1, 2, 3)) == term
    cluster.write(b"k", b"v")


def test_when_the_leaders_process_dies_its_followers_elect_at_once() -> None:
    """Its connections close: they need not wait for the timer (PROTOCOL, "Early pre-vote")."""
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    died_ms = cluster.now_ms
    cluster.crash(leader)
    cluster.elect()
    assert cluster.now_ms - died_ms < 150


def test_a_leader_whose_disk_hangs_does_not_stay_in_office() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.run(seconds=1)
    cluster.process(leader).disk.slowness = 1_000_000
    write = cluster.put(b"k", b"v")
    cluster.elect_other_than(leader)
    cluster.wait(write)
    assert write.error is None


def test_what_was_acknowledged_survives_a_crash_of_all_hosts_at_once() -> None:
    cluster = Cluster(shards=2)
    cluster.elect(1)
    cluster.elect(2)
    revisions = {key: cluster.write(key, b"value of " + key) for key in (b"a", b"b", b"c", b"d")}
    cluster.crash(1, 2, 3)
    cluster.run(seconds=1)
    cluster.restart(1, 2, 3)
    for key in revisions:
        assert cluster.read(key) == b"value of " + key
    cluster.settle()
    assert cluster.get_everywhere(b"d") == b"value of d"


def test_a_write_in_flight_when_its_leader_dies_is_retried_and_applies_once() -> None:
    cluster = Cluster()
    leader = cluster.elect()
    cluster.write(b"first", b"1")
    cluster.cut_one_way(leader, cluster.client().node)
    write = cluster.put(b"k", b"v")
    cluster.run(seconds=0.05)
    assert cluster.get_everywhere(b"k") == b"v", "it is committed"
    assert not write.done, "and its answer is lost"
    cluster.crash(leader)
    cluster.wait(write)
    assert write.revision == 2
    assert cluster.write(b"next", b"3") == 3


def test_a_retry_is_recognised_by_a_leader_that_got_its_state_as_a_copy() -> None:
    """Sessions are part of the copy. Who succeeds the leader is left to chance, so several seeds tell it."""
    successors = [retry_after_a_copy(seed) for seed in range(10)]
    assert any(behind == successor for behind, successor in successors)


def retry_after_a_copy(seed: int) -> tuple[HostId, HostId]:
    cluster = Cluster(config=SMALL_LOG, router=RouterLimits(silence_ms_max=3_000), seed=seed)
    leader = cluster.elect()
    cluster.write(b"first", b"v")
    behind = cluster.followers()[seed % 2]
    cluster.crash(behind)
    cluster.cut_one_way(leader, cluster.client().node)
    write = cluster.put(b"k", b"v", timeout_seconds=60)
    cluster.run(seconds=0.1)
    fill(cluster, 60, via=leader)
    assert not write.done
    cluster.restart(behind)
    cluster.run_until(lambda: cluster.world.copies_installed > 0 and cluster.world.has_settled())
    cluster.crash(leader)
    successor = cluster.elect()
    cluster.wait(write)
    assert write.revision == 2
    assert cluster.write(b"next", b"v") == 63
    return behind, successor


def test_a_learner_resumes_from_its_own_index_after_its_restart() -> None:
    cluster = Cluster(learners=(1,))
    (learner,) = cluster.learners()
    fill(cluster, 20)
    cluster.settle()
    cluster.crash(learner)
    fill(cluster, 20, first=20)
    cluster.restart(learner)
    cluster.settle()
    assert cluster.world.copies_installed == 0
    assert cluster.get_everywhere(b"filler-39") == b"." * 100


def test_a_learner_goes_on_when_its_parent_dies() -> None:
    cluster = Cluster(learners=(1,))
    (learner,) = cluster.learners()
    cluster.settle()
    cluster.crash(cluster.host(learner).tree.parent)
    cluster.write(b"k", b"v")
    cluster.run_until(lambda: cluster.world.is_caught_up(cluster.process(learner)))
    assert cluster.get_everywhere(b"k") == b"v"


def test_a_second_tier_learner_waits_for_its_only_parent_and_keeps_serving() -> None:
    cluster = Cluster(learners=(1, 1))
    near, far = cluster.learners()
    cluster.write(b"k", b"old")
    cluster.settle()
    assert cluster.host(far).tier == 2
    cluster.crash(near)
    cluster.write(b"k", b"new")
    cluster.run(seconds=2)
    replica = cluster.host(far).replicas[1]
    assert replica.serving
    assert replica.machine.revision == 1
    cluster.restart(near)
    cluster.settle()
    assert cluster.get_everywhere(b"k") == b"new"


def test_a_learner_gets_a_copy_when_the_entries_it_needs_are_compacted() -> None:
    cluster = Cluster(learners=(1,), config=SMALL_LOG)
    (learner,) = cluster.learners()
    cluster.write(b"k", b"v")
    cluster.settle()
    cluster.crash(learner)
    fill(cluster, 80)
    cluster.restart(learner)
    cluster.settle()
    assert cluster.world.copies_installed == 1
    assert cluster.get_everywhere(b"k") == b"v"
    assert cluster.get_everywhere(b"filler-79") == b"." * 100


def test_a_follower_gets_a_copy_when_the_entries_it_needs_are_compacted() -> None:
    cluster = Cluster(config=SMALL_LOG)
    cluster.elect()
    behind = cluster.followers()[0]
    cluster.crash(behind)
    fill(cluster, 80)
    cluster.restart(behind)
    cluster.settle()
    assert cluster.world.copies_installed == 1
    assert cluster.get_everywhere(b"filler-79") == b"." * 100


def test_a_copy_survives_the_death_of_the_leader_that_sends_it() -> None:
    cluster = Cluster(config=SMALL_LOG)
    cluster.elect()
    behind = cluster.followers()[0]
    cluster.crash(behind)
    fill(cluster, 200)
    cluster.restart(behind)
    sender = cluster.elect()
    cluster.run(seconds=0.05)
    cluster.crash(sender)
    cluster.run(seconds=2)
    cluster.restart(sender)
    cluster.settle()
    assert cluster.get_everywhere(b"filler-199") == b"." * 100


def test_the_log_is_compacted_at_its_limit_and_never_past_what_is_flushed() -> None:
    cluster = Cluster(config=SMALL_LOG)
    fill(cluster, 200)
    cluster.settle()
    cluster.run(seconds=1)
    for node in (1, 2, 3):
        log = cluster.host(node).voters[1].log
        assert log.first_index > 100
        assert log.log_bytes <= SMALL_LOG.limits.log_bytes_max
        assert log.first_index - 1 <= flushed(cluster, node)


def test_a_copy_is_installed_behind_log_writes_that_wait_for_a_slow_disk() -> None:
    """At the in-flight limit writes wait in the host; the log must not be reset before they are there."""
    config = HostConfig(
        raft=RaftConfig(append_entries_max=1, in_flight_messages_max=4),
        limits=Limits(log_bytes_max=3_000, log_held_bytes_max=6_000, flush_age_ms_max=100, turns_in_flight_max=1),
    )
    for seed in range(6):
        cluster = Cluster(config=config, seed=seed)
        cluster.elect()
        slow = cluster.followers()[0]
        cluster.process(slow).disk.log_slowness = 2_000
        for number in range(6):
            fill(cluster, 30, first=30 * number)
            cluster.run(seconds=0.3)
        wait_for_a_copy(cluster)
        cluster.process(slow).disk.log_slowness = 1
        cluster.settle()
        cluster.crash(slow)
        cluster.restart(slow)
        cluster.settle()
        assert cluster.get_everywhere(b"filler-179") == b"." * 100


def test_a_split_of_five_hosts_leaves_the_majority_working() -> None:
    cluster = Cluster(hosts=5)
    leader = cluster.elect()
    cluster.run(seconds=1)
    minority = [leader, cluster.followers()[0]]
    majority = [node for node in range(1, 6) if node not in minority]
    directions = [(one, other) for one in minority for other in majority]
    cluster.world.cut(directions + [(other, one) for one, other in directions])
    write = cluster.put(b"k", b"lost", via=leader, timeout_seconds=2)
    cluster.run_until(lambda: cluster.leader() in majority)
    cluster.write(b"k", b"kept")
    cluster.run(seconds=3)
    assert write.error is not None
    cluster.heal()
    cluster.settle()
    assert cluster.get_everywhere(b"k") == b"kept"


def test_a_copy_that_is_damaged_at_its_source_is_made_anew() -> None:
    cluster = Cluster(learners=(1,), config=SMALL_LOG)
    (learner,) = cluster.learners()
    cluster.settle()
    behind = cluster.followers()[0]
    cluster.crash(learner, behind)
    fill(cluster, 80)
    for process in cluster.world.processes.values():
        process.disk.store.damages_next_chunk = True
    cluster.restart(learner, behind)
    cluster.settle()
    assert cluster.get_everywhere(b"filler-79") == b"." * 100
