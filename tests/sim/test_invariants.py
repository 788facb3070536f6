"""Every invariant is shown to notice: what it forbids is done once, on purpose."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from shardraft.config import HostConfig, Limits
from shardraft.host.events import PeerFrameReceived
from shardraft.host.tree import Tree
from shardraft.host.turn import LogBatch, StateBatch, Turn
from shardraft.host.voter import Voter
from shardraft.kv.commands import BatchResult, Stored
from shardraft.kv.machine import Machine, MachineImage
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.group import Group
from shardraft.raft.log import RaftLog
from shardraft.raft.messages import (
    AppendEntriesReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
)
from shardraft.raft.ready import BecameLeader, HardState, LogWrite, Ready
from shardraft.sim.cluster import Cluster
from shardraft.sim.failure import SimulationFailure
from shardraft.sim.options import SimulationOptions
from shardraft.sim.run import Simulation, run_seed
from shardraft.sim.store import SimStore
from shardraft.sim.world import World
from shardraft.types import HostId


@pytest.fixture
def cluster() -> Cluster:
    """Three hosts, one shard, one learner, and a few writes that everybody has."""
    cluster = Cluster(learners=(1,))
    for number in range(4):
        cluster.write(b"k%d" % number, b"v%d" % number)
    cluster.settle()
    return cluster


@pytest.fixture
def flushed() -> Cluster:
    """Three hosts with what was written on their disks, as state, and nothing under way."""
    cluster = Cluster(config=HostConfig(limits=Limits(flush_age_ms_max=50)))
    for number in range(4):
        cluster.write(b"k%d" % number, b"v%d" % number)
    cluster.run(seconds=2)
    return cluster


# What lies on disks.


def test_a_second_vote_in_a_term_is_noticed(cluster: Cluster) -> None:
    state = cluster.world.invariants.stores[1].logs[1].hard_state
    other = attrs.evolve(state, voted_for=state.voted_for % 3 + 1)
    with pytest.raises(SimulationFailure, match="hard state"):
        cluster.world.invariants.check_written(1, LogWrite(1, 0, hard_state=other), is_learner=False)


def test_a_term_that_goes_back_is_noticed(cluster: Cluster) -> None:
    with pytest.raises(SimulationFailure, match="hard state"):
        cluster.world.invariants.check_written(1, LogWrite(1, 0, hard_state=HardState(0, 0, 99)), is_learner=False)


def test_a_disk_that_forgets_a_vote_is_noticed(cluster: Cluster) -> None:
    leader = cluster.elect()
    cluster.crash(leader)
    log = cluster.world.invariants.stores[leader].logs[1]
    log.hard_state = attrs.evolve(log.hard_state, voted_for=0)
    with pytest.raises(SimulationFailure, match="recovered"):
        cluster.restart(leader)


def test_a_term_that_nobody_campaigned_in_is_noticed(cluster: Cluster) -> None:
    with pytest.raises(SimulationFailure, match="nobody campaigned in"):
        cluster.world.invariants.check_written(1, LogWrite(1, 0, hard_state=HardState(9, 0, 99)), is_learner=False)


def test_a_flush_past_the_log_on_the_disk_is_noticed(cluster: Cluster) -> None:
    store = cluster.world.invariants.stores[1]
    state = attrs.evolve(store.states[1].state, last_applied=99, last_applied_term=1)
    with pytest.raises(SimulationFailure, match=r"flushed state: .* the log ends at"):
        store.commit_state(StateBatch(99, (MachineImage(state, {}),)))


def test_a_flush_of_other_keys_than_were_committed_is_noticed(flushed: Cluster) -> None:
    store = flushed.world.invariants.stores[1]
    state = store.states[1].state
    with pytest.raises(SimulationFailure, match=r"flushed state: .* keys that differ"):
        store.commit_state(StateBatch(99, (MachineImage(state, {min(store.states[1].items): None}),)))


def test_a_flush_that_took_other_revisions_is_noticed(flushed: Cluster) -> None:
    store = flushed.world.invariants.stores[1]
    state = attrs.evolve(store.states[1].state, revision=9)
    with pytest.raises(SimulationFailure, match=r"flushed state: .*its revision is 9"):
        store.commit_state(StateBatch(99, (MachineImage(state, {}),)))


def test_a_disk_that_lost_a_flushed_key_is_noticed_at_the_next_start(flushed: Cluster) -> None:
    flushed.crash(2)
    items = flushed.world.invariants.stores[2].states[1].items
    del items[min(items)]
    with pytest.raises(SimulationFailure, match="flushed state"):
        flushed.restart(2)


def test_two_entries_of_one_index_and_term_are_noticed(cluster: Cluster) -> None:
    forged = encode_entry(1, 3, 1, EntryKind.BATCH, 0, b"forged")
    with pytest.raises(SimulationFailure, match="log matching"):
        cluster.world.invariants.check_written(1, LogWrite(1, 0, entries=(forged,)), is_learner=False)


def test_an_entry_after_another_one_than_elsewhere_is_noticed(cluster: Cluster) -> None:
    invariants = cluster.world.invariants
    entry = encode_entry(1, 9, 4, EntryKind.NOOP, 0)
    for host, term in ((1, 3), (2, 2)):
        invariants.stores[host].logs[1].write(LogWrite(1, 0, entries=tuple(
            encode_entry(1, index, term, EntryKind.NOOP, 0)
            for index in range(invariants.stores[host].logs[1].last_index + 1, 9)
        )))  # fmt: skip
    invariants.check_written(1, LogWrite(1, 0, entries=(entry,)), is_learner=False)
    with pytest.raises(SimulationFailure, match="log matching"):
        invariants.check_written(2, LogWrite(1, 0, entries=(entry,)), is_learner=False)


@pytest.mark.replaces_code
def test_a_commit_that_is_not_on_a_majoritys_disks_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disks that say done and wrote nothing."""

    def lose(self: SimStore, batches: list[LogBatch]) -> None:
        for batch in batches:
            for write in batch.writes:
                if self.identity.host == 1 or write.hard_state is not None:
                    self.logs[write.shard].write(write if self.identity.host == 1 else attrs.evolve(write, entries=()))
                    self.on_written(write)

    cluster = Cluster()
    cluster.elect()
    monkeypatch.setattr(SimStore, "commit_log", lose)
    with pytest.raises(SimulationFailure, match=r"counts as committed|promised what is not on its disk"):
        cluster.write(b"k", b"v")


# What leaves a host.


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(1, 1, 2, 3, 9, 1),
        RequestVoteReply(1, 1, 2, 3, True),
        AppendEntriesReply(1, 1, 2, 3, True, 1_000),
    ],
)
def test_a_promise_that_is_not_on_the_disk_is_noticed(cluster: Cluster, message: Any) -> None:
    """Host 2 voted for host 1 in term 1 and has a few entries."""
    term = cluster.world.invariants.stores[2].logs[1].hard_state
    assert term.current_term == 1
    assert term.voted_for == 1
    with pytest.raises(SimulationFailure, match="promised"):
        cluster.world.invariants.check_promises(2, [message])


@pytest.mark.replaces_code
def test_a_host_that_promises_too_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Voter._take

    def too_early(self: Voter, ready: Ready) -> Any:
        messages = ready.messages + ready.messages_after_persist
        return take(self, attrs.evolve(ready, messages=messages, messages_after_persist=()))

    monkeypatch.setattr(Voter, "_take", too_early)
    with pytest.raises(SimulationFailure, match="promised what is not on its disk"):
        Cluster().elect()


def test_a_pre_vote_by_a_voter_that_hears_its_leader_is_noticed(cluster: Cluster) -> None:
    leader = cluster.elect()
    voter, asker = cluster.followers()
    host, pre_votes = cluster.host(voter), cluster.world.invariants.pre_votes
    term, now_us = cluster.term(leader) + 1, cluster.process(voter).clock.now_us()
    granted = RequestPreVoteReply(1, term, voter, asker, True)
    question = PeerFrameReceived(now_us, asker, (RequestPreVote(1, term, asker, voter, 99, 99, True),))
    pre_votes.taken(host, question)
    pre_votes.check(voter, [attrs.evolve(granted, vote_granted=False), attrs.evolve(granted, to_replica=leader)])
    with pytest.raises(SimulationFailure, match="a pre-vote while it hears"):
        pre_votes.check(voter, [granted])
    pre_votes.turn_ended()
    pre_votes.taken(host, attrs.evolve(question, now_us=now_us + 5_000_000))
    pre_votes.check(voter, [granted])


# Who leads.


def test_two_leaders_of_one_term_are_noticed(cluster: Cluster) -> None:
    follower = cluster.followers()[0]
    with pytest.raises(SimulationFailure, match="election safety"):
        cluster.world.invariants.check_turn(cluster.process(follower), Turn(1, notes=(BecameLeader(1, 1),)))


def test_a_leader_without_a_committed_entry_is_noticed(cluster: Cluster) -> None:
    behind = cluster.followers()[0]
    cluster.isolate(behind)
    cluster.write(b"k", b"v")
    with pytest.raises(SimulationFailure, match="leader completeness"):
        cluster.world.invariants.check_turn(cluster.process(behind), Turn(1, notes=(BecameLeader(1, 2),)))


@pytest.mark.replaces_code
def test_votes_for_logs_that_are_behind_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Group, "log_is_up_to_date", lambda self, message: True)

    def elect_whoever_is_behind(seed: int) -> HostId:
        cluster = Cluster(seed=seed)
        leader = cluster.elect()
        behind = cluster.followers()[0]
        cluster.isolate(behind)
        cluster.write(b"k", b"v")
        cluster.crash(leader)
        cluster.world.uncut(list(cluster.world.network.cut))
        return cluster.elect()

    with pytest.raises(SimulationFailure, match="leader completeness"):
        _ = [elect_whoever_is_behind(seed) for seed in range(20)]  # Who is elected is left to chance.


# What hosts know.


def test_replicas_that_applied_different_things_are_noticed(cluster: Cluster) -> None:
    cluster.host(cluster.followers()[0]).voters[1].machine.applied_hash ^= 1
    cluster.put(b"k", b"v")
    with pytest.raises(SimulationFailure, match="state machine safety"):
        cluster.run(seconds=1)


def test_a_commit_index_that_goes_back_is_noticed(cluster: Cluster) -> None:
    process = cluster.process(cluster.followers()[0])
    cluster.host(process.node).voters[1].raft.commit_index -= 1
    with pytest.raises(SimulationFailure, match="went from"):
        cluster.world.invariants.check_replicas(process)


def test_another_entry_committed_at_an_index_is_noticed(cluster: Cluster) -> None:
    process = cluster.process(cluster.followers()[0])
    voter = cluster.host(process.node).voters[1]
    cluster.isolate(process.node)
    cluster.write(b"k", b"v")
    log = voter.log
    log.append((encode_entry(1, log.last_index + 1, 7, EntryKind.NOOP, 0),))
    voter.raft.commit_index = log.last_index
    with pytest.raises(SimulationFailure, match="state machine safety"):
        cluster.world.invariants.check_replicas(process)


@pytest.mark.replaces_code
def test_a_learner_that_holds_what_is_not_committed_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(self: Tree, voter: Voter) -> None:
        if self.feed.holds(voter.shard):
            self.feed.committed(voter.shard, voter.log.last_index)
        else:
            self.add_fed(voter)

    monkeypatch.setattr(Tree, "committed", too_much)
    cluster = Cluster(learners=(1,))
    with pytest.raises(SimulationFailure, match=r"learner 101.*not the committed one"):
        _ = [cluster.write(b"k%d" % number, b"v") for number in range(20)]


@pytest.mark.replaces_code
def test_an_operation_that_applies_twice_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(self: Machine, session: Any, batch: Any) -> BatchResult:
        return self._apply_fresh(session, batch)

    monkeypatch.setattr(Machine, "_apply_again", again)
    cluster = Cluster()
    leader = cluster.elect()
    cluster.write(b"first", b"1")
    cluster.cut_one_way(leader, cluster.client().node)
    write = cluster.put(b"k", b"v")
    cluster.run(seconds=0.05)
    cluster.crash(leader)
    with pytest.raises(SimulationFailure, match="operations were committed"):
        cluster.wait(write)


# What clients are told.


def test_an_acknowledgement_of_what_is_not_committed_is_noticed(cluster: Cluster) -> None:
    cluster.world.judge.write_was_told(b"k1", 2, b"v1")
    for revision, value in ((2, b"other"), (3, b"v1"), (9, b"v1"), (2, None)):
        with pytest.raises(SimulationFailure, match="not committed"):
            cluster.world.judge.write_was_told(b"k1", revision, value)


def test_a_read_of_anything_but_the_state_at_its_index_is_noticed(cluster: Cluster) -> None:
    index = cluster.world.invariants.commit_index(1)
    cluster.world.judge.read_was_told(b"k1", 2, b"v1", index)
    for revision, value, at in ((2, b"other", index), (3, b"v1", index), (0, None, index), (2, b"v1", index + 1)):
        with pytest.raises(SimulationFailure, match="a read of"):
            cluster.world.judge.read_was_told(b"k1", revision, value, at)


def test_contents_that_differ_at_the_end_are_noticed(cluster: Cluster) -> None:
    process = cluster.process(1)
    assert cluster.world.invariants.check_contents(process) == 1
    cluster.run(seconds=10)
    cluster.world.invariants.stores[1].states[1].items[b"\x00\x00forged"] = Stored(1, b"x")
    cluster.world.invariants.stores[1].states[1].ordered = None
    with pytest.raises(SimulationFailure, match="its keys are not those committed"):
        cluster.world.invariants.check_contents(process)


# The whole run.


def test_a_cluster_that_does_not_recover_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def heal_nothing(self: World) -> None:
        self.cut([(one, other) for one in self.processes for other in self.processes if one != other])

    monkeypatch.setattr(World, "heal", heal_nothing)
    with pytest.raises(SimulationFailure, match=r"no progress within 10 election timeouts .* a write to shard 1"):
        Simulation(SimulationOptions(seed=1, seconds=0.2, faults=False)).run()


@pytest.mark.replaces_code
def test_a_crash_of_the_program_is_a_failure_with_its_replay_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(self: RaftLog, entries: Any) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(RaftLog, "append", bug)
    with pytest.raises(SimulationFailure) as caught:
        run_seed(12, hosts=5, shards=3, learners=(), seconds=7)
    assert caught.value.reason == "KeyError: 'a bug'"
    assert caught.value.replay == "shardraft sim --seed 12 --hosts 5 --seconds 7 --shards 3 --learners 0"
    assert caught.value.replay in str(caught.value)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.replaces_code
def test_a_linearizable_read_that_misses_what_was_committed_before_it_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A deposed leader that answers without proving that it still leads (thesis 6.4)."""
    monkeypatch.setattr(Voter, "read", Voter.answer_read)
    cluster = Cluster()
    leader = cluster.elect()
    cluster.wait(cluster.put(b"k", b"old", via=leader))
    for follower in cluster.followers():
        cluster.world.peers.reset(follower, leader)
    cluster.isolate(leader)
    cluster.elect_other_than(leader)
    cluster.write(b"k", b"new")
    stale = cluster.get(b"k", via=leader)
    with pytest.raises(SimulationFailure, match="linearizable read"):
        cluster.wait(stale)


def test_a_write_that_was_called_certainly_not_applied_and_was_is_noticed() -> None:
    simulation = Simulation(SimulationOptions(seed=1, seconds=2, faults=False))
    simulation.world.start()
    simulation.world.run(2)
    value = next(iter(simulation.world.invariants.oracle(1).values()))
    simulation.world.workload.refused_values.add(value)
    with pytest.raises(SimulationFailure, match="certainly not applied"):
        simulation.check_refusals()
