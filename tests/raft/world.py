"""A random world around one group: messages lost, doubled and reordered, crashes, cuts, drifting clocks, changes.

Every step is checked by ``law.Law``: one leader per term, elected by a quorum; one vote per term;
log matching; one entry per committed index, commits on a durable quorum; nothing promised before it
is persisted; one change of membership at a time, each with majorities that overlap those before.
"""

from __future__ import annotations

from collections.abc import Callable

from shardraft.config import RaftConfig
from shardraft.errors import Conflict, InvalidArgument, NotLeader, Overloaded
from shardraft.raft.entry import Entry
from tests.raft.cluster import Cluster, Node
from tests.raft.law import Copy, CopyDone

STEPS = 3_000
MEMBERS_MAX = 6


class World:
    """A cluster and a seeded stream of mishaps.

    Of the seeds every other one changes the membership, a third has leases on, a third prefers a
    leader, and half destroy a replica as soon as it knows that it left.
    """

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
            append_entries_max=3,
            append_bytes_max=300,
            in_flight_messages_max=4,
            log_cache_bytes_max=500,
            lease_ms=400 if seed % 3 == 1 else 0,
            preferred_after_ms=300,
            commit_push_ms=(0, 2, 30)[seed % 3],
        )
        preferred = 2 if seed % 3 == 2 else 0
        self.cluster = Cluster(voters, voters_outgoing=outgoing, config=config, seed=seed, preferred=preferred)
        self.random = self.cluster.random
        self.changes = seed % 2 == 0
        self.destroys = seed % 4 == 0
        self.replicas = 10
        for node in self.cluster.nodes.values():
            node.drift_ppm = self.random.randrange(-config.rho_ppm, config.rho_ppm + 1)
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
        if message.to_replica in self.cluster.destroyed:
            return
        if isinstance(message, Copy):
            self.receive_copy(message)
        else:
            self.cluster.deliver(message)

    def receive_copy(self, copy: Copy) -> None:
        """The install takes a while; meanwhile messages go on arriving."""
        node = self.cluster.node(copy.to_replica)
        if copy.to_replica in self.installing or (copy.from_replica, copy.to_replica) in self.cluster.cuts:
            return
        if not node.raft.accept_copy(copy.from_replica, copy.term, node.now_us):
            return
        if node.raft.begin_restore(copy.index, copy.index_term):
            self.installing[copy.to_replica] = copy
        else:
            self.cluster.send(CopyDone(copy.to_replica, copy.from_replica, copy.index))

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

    def one_of(self, nodes: list[Node]) -> Node:
        """Any of these, where something would happen, or anybody."""
        return self.random.choice(nodes or list(self.cluster.nodes.values()))

    def take(self) -> None:
        node = self.one_of([node for node in self.cluster.nodes.values() if node.raft.has_ready])
        node.take()
        self.cluster.send_copies(node)

    def persist(self) -> None:
        node = self.one_of([node for node in self.cluster.nodes.values() if node.pending])
        if node.pending:
            node.persist()

    def tick(self) -> None:
        node = self.node()
        self.cluster.now_us += self.random.randrange(80_000)
        node.raft.tick(node.now_us)

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
            node.raft.read_index(context, node.now_us)
        except (NotLeader, Overloaded):
            return
        self.reads[context] = self.cluster.law.commit_index

    def change(self) -> None:
        """A leader is asked for a change that may make sense."""
        if not self.changes:
            return
        node = self.leader()
        membership = node.raft.membership
        add: tuple[int, ...] = ()
        if membership.staging and self.random.random() < 0.5:
            remove = membership.staging[:1]
        else:
            remove = tuple(self.random.sample(membership.voters, min(len(membership.voters), self.random.randrange(3))))
            free = MEMBERS_MAX - len(membership.members)
            add = tuple(range(self.replicas, self.replicas + min(free, self.random.randrange(3))))
        try:
            self.cluster.change(node.replica, add, remove)
        except (NotLeader, Conflict, InvalidArgument):
            return
        self.replicas += len(add)

    def leader(self) -> Node:
        """Some leader, or one that believes so; anybody when there is none."""
        return self.one_of([self.cluster.nodes[leader] for leader in self.cluster.leaders()])

    def transfer(self) -> None:
        node = self.leader()
        target = self.random.choice([None, self.node().replica])
        try:
            node.raft.transfer(target, node.now_us, keep=self.random.random() < 0.5)
        except (NotLeader, Conflict, InvalidArgument):
            return

    def destroy(self) -> None:
        """A host destroys a replica that knows that it left."""
        for node in [node for node in self.cluster.nodes.values() if node.raft.has_left and self.destroys]:
            self.installing.pop(node.replica, None)
            self.cluster.destroy(node.replica)

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
            (self.change, 3),
            (self.transfer, 0.7),
            (self.destroy, 0.5),
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
        """Everything works again: within a few election timeouts all members hold one fresh entry.

        Changes that were begun are finished by then, by whoever leads.
        """
        cluster = self.cluster
        self.finish_install()
        cluster.heal()
        cluster.run(4)
        self.copy_times_out()
        cluster.run(4)
        self.check_reads()
        entry = self.propose_at_last()
        cluster.stabilize()
        cluster.run(0.5)
        self.check_reads()
        (leader,) = cluster.leaders()
        membership = cluster.raft(leader).membership
        assert cluster.raft(leader).membership_settled, f"the change to {membership} is not finished"
        for replica in membership.voters:
            node = cluster.nodes[replica]
            assert (node.raft.commit_index, node.disk.last_index) == (entry.index, entry.index)
            assert (node.raft.membership, node.membership) == (membership, membership)
            assert len(node.raft.log.entries(entry.index, entry.index + 1, 0)) == 1

    def propose_at_last(self) -> Entry:
        """A leader takes a proposal, as soon as it hands over to nobody."""
        for _ in range(20):
            (leader,) = self.cluster.leaders()
            try:
                return self.cluster.propose(leader, "after all that")
            except Overloaded:
                self.cluster.run(0.1)
        raise AssertionError("no leader takes a proposal")
