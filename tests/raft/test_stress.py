"""Random worlds of lost, doubled and reordered messages, crashes, cuts and snapshots; then heal and demand progress.

Every step is checked by ``cluster.Law``: one leader per term, one vote per term, log matching, one
entry per committed index, commits on a durable majority, nothing promised before it is persisted.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shardraft.config import RaftConfig
from shardraft.errors import NotLeader, Overloaded
from tests.raft.cluster import Cluster, Node
from tests.raft.law import Copy

STEPS = 3_000
SEEDS = range(60)


class World:
    """A cluster and a seeded stream of mishaps."""

    def __init__(self, seed: int) -> None:
        groups: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
            ((1, 2, 3), ()),
            ((1, 2, 3), ()),
            ((1, 2, 3, 4, 5), ()),
            ((1, 2, 3), (3, 4, 5)),
            ((1,), ()),
        ]
        voters, outgoing = groups[seed % len(groups)]
        config = RaftConfig(
            append_entries_max=3, append_bytes_max=300, in_flight_messages_max=4, log_cache_bytes_max=500
        )
        self.cluster = Cluster(voters, voters_outgoing=outgoing, config=config, seed=seed)
        self.random = self.cluster.random
        self.texts = 0
        self.reads: dict[int, int] = {}
        self.installing: dict[int, Copy] = {}

    def node(self) -> Node:
        return self.random.choice(list(self.cluster.nodes.values()))

    # Mishaps and ordinary life

    def deliver(self) -> None:
        """One message, any of those on their way; it may be lost, or arrive again later."""
        messages = self.cluster.messages
        if not messages:
            return
        # Mostly in order, as one connection would, sometimes any.
        message = messages.pop(0 if self.random.random() < 0.7 else self.random.randrange(len(messages)))
        fate = self.random.random()
        if fate < 0.05:
            return
        if fate < 0.12:
            messages.append(message)
        if isinstance(message, Copy):
            self.receive_copy(message)
        else:
            self.cluster.deliver(message)

    def receive_copy(self, copy: Copy) -> None:
        """The install takes a while; meanwhile messages go on arriving."""
        raft = self.cluster.raft(copy.to_replica)
        if copy.to_replica in self.installing or (copy.from_replica, copy.to_replica) in self.cluster.cuts:
            return
        accepted = raft.accept_copy(copy.from_replica, copy.term, self.cluster.now_us)
        if accepted and raft.begin_restore(copy.index, copy.index_term):
            self.installing[copy.to_replica] = copy

    def finish_install(self) -> None:
        for replica in sorted(self.installing):
            copy = self.installing.pop(replica)
            node = self.cluster.nodes[replica]
            node.take()
            node.install(copy)

    def copy_times_out(self) -> None:
        """A leader gives up on its snapshots under way, rightly or not."""
        for node in self.cluster.nodes.values():
            if node.raft.leading is not None:
                for progress in node.raft.leading.followers:
                    node.raft.copy_finished(progress.replica, None)

    def take(self) -> None:
        node = self.node()
        node.take()
        self.cluster.send_copies(node)

    def persist(self) -> None:
        node = self.node()
        if node.pending:
            node.persist()

    def tick(self) -> None:
        node = self.node()
        self.cluster.now_us += self.random.randrange(80_000)
        node.raft.tick(self.cluster.now_us)

    def propose(self) -> None:
        node = self.node()
        self.texts += 1
        try:
            self.cluster.propose(node.replica, f"entry {self.texts} " + "x" * self.random.randrange(200))
        except (NotLeader, Overloaded):
            return

    def read(self) -> None:
        node = self.node()
        context = len(self.reads)
        try:
            node.raft.read_index(context, self.cluster.now_us)
        except (NotLeader, Overloaded):
            return
        self.reads[context] = self.cluster.law.commit_index

    def restart(self) -> None:
        node = self.node()
        self.installing.pop(node.replica, None)
        node.restart()

    def cut(self) -> None:
        one, other = self.node().replica, self.node().replica
        if one != other:
            self.cluster.cuts.add((one, other))

    def heal(self) -> None:
        self.cluster.heal()

    def disconnect(self) -> None:
        self.cluster.disconnect(self.node().replica, self.node().replica)

    def connect(self) -> None:
        self.node().raft.peer_connected(self.node().replica, self.cluster.now_us)

    def compact(self) -> None:
        node = self.node()
        index = min(node.raft.commit_index, node.raft.log.persisted_index, node.disk.last_index)
        if index >= node.raft.log.first_index and node.replica not in self.installing:
            node.raft.compact(index)
            node.disk.compact_to(index)

    def live(self) -> None:
        actions: list[tuple[Callable[[], None], float]] = [
            (self.deliver, 40),
            (self.take, 25),
            (self.persist, 20),
            (self.tick, 12),
            (self.propose, 8),
            (self.read, 3),
            (self.finish_install, 2),
            (self.restart, 0.7),
            (self.cut, 0.8),
            (self.heal, 0.4),
            (self.disconnect, 0.5),
            (self.connect, 0.5),
            (self.compact, 1),
            (self.copy_times_out, 0.3),
        ]
        for action in self.random.choices([a for a, _ in actions], [w for _, w in actions], k=STEPS):
            action()
            self.check_reads()

    def check_reads(self) -> None:
        """A read sees everything that was committed anywhere when it arrived."""
        for node in self.cluster.nodes.values():
            for state in node.read_states:
                assert state.index >= self.reads[state.context], f"a stale read at {node.replica}"
            node.read_states.clear()

    def recover(self) -> None:
        """Everything works again: within a few election timeouts all replicas hold one fresh entry."""
        cluster = self.cluster
        self.finish_install()
        cluster.heal()
        cluster.run(3)
        self.copy_times_out()
        cluster.run(3)
        self.check_reads()
        (leader,) = cluster.leaders()
        entry = cluster.propose(leader, "after all that")
        cluster.stabilize()
        cluster.run(0.5)
        self.check_reads()
        assert {node.raft.commit_index for node in cluster.nodes.values()} == {entry.index}
        assert {node.disk.last_index for node in cluster.nodes.values()} == {entry.index}
        assert all(len(node.raft.log.entries(entry.index, entry.index + 1, 0)) == 1 for node in cluster.nodes.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_world_breaks_no_law_and_recovers(seed: int) -> None:
    world = World(seed)
    world.live()
    world.recover()
    refused = [reason for replica in world.cluster.nodes for reason in world.cluster.refusals(replica)]
    assert refused == [], "correct replicas never send what must be refused"


def test_the_same_seed_makes_the_same_world() -> None:
    def trace(seed: int) -> list[tuple[int, object]]:
        world = World(seed)
        world.live()
        return world.cluster.trace

    assert trace(3) == trace(3)
    assert trace(3) != trace(4)
