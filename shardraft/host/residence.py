"""Which replicas live on this host: made when a leader speaks to one, removed when they have left their group.

Decision 0011. A host that hears a leader name a replica of it which it does not hold makes that replica,
empty; what follows brings it up to date. A replica that has applied a configuration in which it has no
part any more is removed, and a tombstone keeps its number from ever coming back: a number stands for
one vote and one log, and those of a removed replica are gone (PROTOCOL, "Members are (host, replica number)").
"""

from __future__ import annotations

from collections.abc import Callable

from shardraft.host.copying import Copying
from shardraft.host.events import ReplicaCreated, ReplicaRemoved
from shardraft.host.flushing import Flushing
from shardraft.host.making import ReplicaMaker
from shardraft.host.messages import CopyChunk, RemovalNotice, ShardMessage
from shardraft.host.outbox import Outbox
from shardraft.host.ports import Recovered, RecoveredShard
from shardraft.host.replica import Replica
from shardraft.host.tree import Tree
from shardraft.host.turn import CreateReplica, RemoveReplica, ReplicaJoined, ReplicaLeft
from shardraft.host.voter import Voter
from shardraft.kv.machine import MachineState
from shardraft.raft.membership import decode_membership
from shardraft.raft.messages import AppendEntries, Heartbeat, RequestPreVote, RequestVote
from shardraft.raft.ready import HardState, LogSummary, Refused, Role
from shardraft.shards.shard_map import Shard, ShardMap
from shardraft.types import NO_HOST, NO_REPLICA, HostId, ReplicaId, ShardId


class Residence:
    """The one who puts voters into the tables of a host and takes them out.

    A replica on its way out is *leaving*: it is stopped, and goes once nothing of it can reach the disk
    any more. Until the store has said ``ReplicaRemoved``, or ``ReplicaCreated`` of one being made, what is said
    to the shard here is dropped; whoever says it says it again.
    """

    def __init__(
        self,
        host: HostId,
        voters: dict[ShardId, Voter],
        replicas: dict[ShardId, Replica],
        maker: ReplicaMaker,
        outbox: Outbox,
        flushing: Flushing,
        tree: Tree,
        touch: Callable[[Voter], None],
        shard_map: ShardMap | None,
    ) -> None:
        self.shard_map = shard_map
        """Ranges and partitioning of shards that may come to this host."""
        self.former_leaders: dict[ShardId, HostId] = {}
        """Of shards that were removed from here: who led them then, or is likely to know."""
        self._host = host
        self._voters = voters
        self._replicas = replicas
        self._maker = maker
        self._outbox = outbox
        self._flushing = flushing
        self._tree = tree
        self._touch = touch
        self._tombstones: dict[ShardId, ReplicaId] = {}
        self._leaving: dict[ShardId, Voter] = {}
        self._creating: dict[ShardId, CreateReplica] = {}
        self._removing: dict[ShardId, ReplicaId] = {}
        self._commands: list[CreateReplica | RemoveReplica] = []

    # Replicas come.

    def begin(self, recovered: Recovered, now_us: int) -> None:
        """Make the replicas that the store holds."""
        self._tombstones = {tombstone.shard: tombstone.replica for tombstone in recovered.tombstones}
        for stored in recovered.shards:
            shard = self._shard_of(stored.shard)
            assert shard is not None, "a host holds shards of its map only"
            if stored.replica or shard.membership.replica_on(self._host):
                self._settle(self._maker.voter(shard, stored, now_us, self._slot_bytes))

    @property
    def _slot_bytes(self) -> int:
        assert self.shard_map is not None, "a voter host starts from a shard map"
        return self.shard_map.partitioning.slot_bytes

    def _shard_of(self, shard: ShardId) -> Shard | None:
        if self.shard_map is None:
            return None
        return next((found for found in self.shard_map.shards if found.shard == shard), None)

    def _settle(self, voter: Voter) -> None:
        self._voters[voter.shard] = self._replicas[voter.shard] = voter
        self._touch(voter)  # Its first turn offers it to children.

    def misdirected(self, host: HostId, message: ShardMessage, now_us: int) -> None:
        """A message to a replica that is not here: one that is to be made, one that left, or nonsense."""
        shard, replica = message.shard, message.to_replica
        if shard in self._creating or shard in self._removing or replica <= self._tombstones.get(shard, NO_REPLICA):
            return
        voter = self._voters.get(shard)
        place = self._shard_of(shard)
        is_of_leader = type(message) in (AppendEntries, Heartbeat, CopyChunk)
        if place is None:
            self._outbox.notes.append(Refused(shard, f"a message of host {host} for a shard that no map has"))
        elif not is_of_leader or (voter is not None and replica < voter.raft.replica):
            return  # A leader says more, or it is said to a replica that was here before.
        elif voter is not None:
            # A host gets a second number only after it is committed that the first has left. Who may stand for
            # election asks for votes before long, and is told so; nobody else asks for anything.
            if voter.stopped or not voter.raft.may_stand():
                self._leave(voter, now_us)
        else:
            assert self.shard_map is not None, "the shard is in the map"
            state = MachineState(shard, place.key_range, self.shard_map.epoch)
            self._creating[shard] = command = CreateReplica(replica, state)
            self._commands.append(command)

    def created(self, event: ReplicaCreated) -> None:
        """The new replica is on the disk: from here on it follows. What it knows of its group, its leader tells."""
        command = self._creating.pop(event.shard)
        shard = self._shard_of(event.shard)
        assert shard is not None, "a shard leaves no map"
        self._tombstones.pop(event.shard, None)
        stored = RecoveredShard(event.shard, HardState(), LogSummary(), command.state, command.replica)
        self._settle(self._maker.voter(shard, stored, event.now_us, self._slot_bytes))
        self._outbox.notes.append(ReplicaJoined(event.shard, command.replica))

    # Replicas go.

    def judge(self, voter: Voter, now_us: int) -> None:
        """The configuration that ``voter`` has applied is another than before: has it left?

        It has when its own number was given out by then and is none of a member. A leader goes through
        with its retirement first (thesis 4.2.2).
        """
        has_left = _has_left(voter, voter.raft.replica, self._host)
        if has_left and voter.raft.role is Role.LEADER:
            return
        voter.judged_membership = voter.machine.membership
        if has_left:
            self._leave(voter, now_us)

    def stranger(self, voter: Voter, host: HostId, message: ShardMessage) -> None:
        """``host`` may not speak for the replica that it names. If that has left, it does not know: tell it."""
        if voter.has_removed(message.from_replica):
            if isinstance(message, RequestPreVote | RequestVote) and not voter.stopped:
                self._tell(voter, host, message.from_replica)
            return
        self._outbox.notes.append(Refused(voter.shard, f"a message of host {host} for another replica"))

    def asked_for_vote(self, voter: Voter, host: HostId, replica: ReplicaId) -> None:
        """A member, as far as the kept log tells, would be elected: tell it if it is applied here that it left.

        The leader sends it the log too, but may not be asked: a configuration that was never committed, by which
        that replica goes, may be one without the leader. Nor may the log reach back to where theirs agree.
        """
        if _has_left(voter, replica, host):
            self._tell(voter, host, replica)

    def _tell(self, voter: Voter, host: HostId, replica: ReplicaId) -> None:
        raft = voter.raft
        self._outbox.to_host(host, RemovalNotice(voter.shard, raft.term, raft.replica, replica))

    def told(self, voter: Voter, now_us: int) -> None:
        """Another member knows that it is committed that ``voter`` has left."""
        if voter.raft.role is not Role.LEADER:
            self._leave(voter, now_us)

    def _leave(self, voter: Voter, now_us: int) -> None:
        if voter.shard in self._leaving:
            return
        self.former_leaders[voter.shard] = self._likely_leader(voter)
        voter.leave(now_us)
        self._leaving[voter.shard] = voter
        self._tree.feed.remove_shard(voter.shard)
        self._outbox.notes.append(ReplicaLeft(voter.shard, voter.raft.replica))

    def _likely_leader(self, voter: Voter) -> HostId:
        """The leader that it followed; for one that led itself, a voter of the configuration without it."""
        raft, encoded = voter.raft, voter.machine.membership
        if raft.leader_host not in (NO_HOST, self._host) or not encoded:
            return raft.leader_host
        membership = decode_membership(encoded)
        hosts = [membership.host_of(replica) for replica in membership.voters]
        return next((host for host in hosts if host != self._host), NO_HOST)

    def turn(self, copying: Copying, has_unsubmitted: Callable[[ShardId], bool], now_us: int) -> None:
        """Let those go of whom nothing waits for the disk; called when the turn's batches are made."""
        if not self._leaving:
            return
        for voter in list(self._leaving.values()):
            shard = voter.shard
            if voter.installing or self._flushing.is_flushing(voter) or has_unsubmitted(shard):
                continue
            if copying.leave(shard, now_us):
                del self._leaving[shard], self._voters[shard], self._replicas[shard]
                self._flushing.left(voter)
                self._removing[shard] = voter.raft.replica
                self._commands.append(RemoveReplica(shard, voter.raft.replica))

    def take_commands(self) -> tuple[CreateReplica | RemoveReplica, ...]:
        """What the store is to make and to remove."""
        if not self._commands:
            return ()
        taken, self._commands = self._commands, []
        return tuple(taken)

    def removed(self, event: ReplicaRemoved) -> None:
        """Nothing of the replica is left but its tombstone."""
        self._tombstones[event.shard] = self._removing.pop(event.shard)

    def leader_hint(self, shard: ShardId) -> HostId:
        """Who may lead a shard that this host does not hold."""
        return self.former_leaders.get(shard, NO_HOST)


def _has_left(voter: Voter, replica: ReplicaId, host: HostId) -> bool:
    """Whether ``voter`` has applied a configuration in which ``replica``, given out by then, has no part."""
    machine = voter.machine
    given_out = machine.last_replica >= replica and machine.membership != b""
    return given_out and decode_membership(machine.membership).host_of(replica) != host
