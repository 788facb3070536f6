"""The host: every shard of one process behind ``step``, ``begin_turn`` and ``finish_turn``."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from shardraft.config import HostConfig
from shardraft.host import events
from shardraft.host.administration import Administration
from shardraft.host.clients import Clients
from shardraft.host.commits import Commits
from shardraft.host.compaction import Compaction
from shardraft.host.copying import Copying
from shardraft.host.cutting import Cutting
from shardraft.host.deadlines import Deadlines
from shardraft.host.departure import Departure
from shardraft.host.disk_watch import DiskWatch
from shardraft.host.flushing import Flushing
from shardraft.host.making import ReplicaMaker, first_state
from shardraft.host.messages import (
    CopyChunk,
    CopyOrder,
    CopyOrderReply,
    CopyReply,
    HashCheck,
    RemovalNotice,
    Round,
    RoundReply,
    ShardMessage,
)
from shardraft.host.outbound_copies import OutboundCopies
from shardraft.host.outbox import Outbox
from shardraft.host.pending import PendingRequests
from shardraft.host.places import Places
from shardraft.host.ports import Codec, Recovered, RecoveredShard, Store
from shardraft.host.reads import AnswerableReads
from shardraft.host.replica import Replica
from shardraft.host.residence import Residence
from shardraft.host.rounds import Rounds
from shardraft.host.telling import Telling
from shardraft.host.tree import Tree
from shardraft.host.turn import Outcome, Turn
from shardraft.host.voter import Voter
from shardraft.learner.learner import Learner
from shardraft.raft.messages import RequestPreVote
from shardraft.raft.ready import HardState, LogSummary, Role
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId, Index, ShardId

_FAR_FUTURE_US: Final = 2**62


class Host:
    """One process as a pure machine. The driver's loop is in the package's docstring.

    ``recovered`` is what the store held at start and ``store`` its read side; ``random`` is seeded by the
    driver. A learner's host has ``is_learner`` set, holds no voters and follows a parent instead, one of the
    endpoints ``parents`` to begin with; the driver connects to ``tree.learner.parents.endpoint``.
    """

    def __init__(
        self,
        *,
        recovered: Recovered,
        store: Store,
        codec: Codec,
        config: HostConfig,
        random: Random,
        now_us: int,
        endpoint: str = "",
        is_learner: bool = False,
        parents: tuple[str, ...] = (),
    ) -> None:
        self.host = recovered.identity.host
        self.config = config
        self.outbox = Outbox()
        self.pending = PendingRequests(config.limits, self.outbox)
        self.reads = AnswerableReads(config.limits.turn_read_bytes_max, self.pending)
        self.flushing = Flushing(config.limits)
        self.commits = Commits(config.limits.turns_in_flight_max)
        self.voters: dict[ShardId, Voter] = {}
        self._deadlines = Deadlines(self.voters)
        self._telling = Telling(self.outbox)
        self._disk_watch = DiskWatch(self.commits, self.voters, config.raft, self.touch)
        self._turn = 0
        self._touched: dict[ShardId, Voter] = {}
        first_number = recovered.identity.incarnation << 32
        self.rounds = Rounds(config.raft, first_number, self.voters, self.outbox, self.touch)
        self._maker = ReplicaMaker(self.host, config, store, codec, random, self.rounds, self.pending, self.outbox)
        known_map = recovered.shard_map
        learner = Learner(self.host, endpoint, config.limits, known_map, parents) if is_learner else None
        self.tree = Tree(self.host, config, self.outbox, self.flushing, self.commits.write, known_map, learner)
        self.replicas: dict[ShardId, Replica] = {}
        self.residence = Residence(
            self.host,
            self.voters,
            self.replicas,
            self._maker,
            self.outbox,
            self.flushing,
            self.tree,
            self.touch,
            recovered.shard_map,
        )
        self._begin(recovered, is_learner, now_us)
        outbound = OutboundCopies(config.limits, first_number, store.read_chunk, self._log_first_index)
        self.copying = Copying(
            config.limits, first_number, outbound, self.outbox, self.flushing, self.tree, self.voters, self.touch
        )
        self.compaction = Compaction(config.limits, self.flushing, self.copying, self.commits.compact, self.outbox)
        cutting = Cutting(self.voters, self.tree.feed, self.copying, self.commits)
        self.administration = Administration(
            self.host, self.voters, self.replicas, self.pending, self.flushing, cutting, config.raft, self.touch
        )
        voters_map = None if is_learner else known_map
        self.places = Places(self.host, voters_map, self.voters, config.limits, self.outbox, self.tree.tell_map)
        self.clients = self._open_door(recovered.shard_map, now_us)
        self.departure = Departure(self.voters, self.touch)
        self._steps = self._step_table()

    def _open_door(self, shard_map: ShardMap | None, now_us: int) -> Clients:
        return Clients(
            self.host,
            self.voters,
            self.replicas,
            self.pending,
            self.outbox,
            self.reads,
            self.tree,
            self.administration,
            self.places,
            self.residence,
            self.touch,
            shard_map,
            now_us,
        )

    def _begin(self, recovered: Recovered, is_learner: bool, now_us: int) -> None:
        if not is_learner:
            self.residence.begin(recovered, now_us)
            return
        for stored in recovered.shards:
            self._add_followed(stored)

    def _add_followed(self, stored: RecoveredShard) -> None:
        replica = self._maker.learner(stored)
        self.replicas[stored.shard] = replica
        self.tree.add_followed(replica)

    def _log_first_index(self, shard: ShardId) -> Index:
        return self.replicas[shard].log.first_index

    # Events in.

    def _step_table(self) -> dict[type, Callable[..., None]]:
        return {
            events.Tick: lambda event: None,  # Time is looked at in begin_turn; a tick only wakes the driver.
            events.PeerFrameReceived: self._peer_frame,
            events.PeerConnected: self._peer_connected,
            events.HostMet: self.places.met,
            events.PeerDisconnected: self._peer_disconnected,
            events.RequestReceived: self.clients.requested,
            events.ConnectionClosed: self._connection_closed,
            events.ParentConnected: lambda event: self.tree.parent_connected(event.connection, event.now_us),
            events.LinkFrameReceived: self._link_frame,
            events.StateFlushed: self._state_flushed,
            events.CopySpooled: self.copying.spooled,
            events.CopyInstalled: self.copying.installed,
            events.CopyRejected: self.copying.rejected,
            events.ReplicaCreated: self.residence.created,
            events.ReplicaRemoved: self.residence.removed,
            events.ShardMapKept: self._shard_map_kept,
            events.DiskSpace: self._disk_space,
            events.StopAsked: self.departure.asked,
        }

    def step(self, event: events.Event) -> None:
        """Take one event in. What comes of it leaves with the next turn."""
        self._steps[type(event)](event)

    def touch(self, voter: Voter) -> None:
        """Let ``voter`` take part in the next turn."""
        self._touched[voter.shard] = voter

    def _peer_frame(self, event: events.PeerFrameReceived) -> None:
        for message in event.messages:
            if isinstance(message, Round):
                self.rounds.received(event.host, message, event.now_us)
            elif isinstance(message, RoundReply):
                self.rounds.answered(event.host, message, event.now_us)
            else:
                self._peer_message(event.host, message, event.now_us)

    def _peer_message(self, host: HostId, message: ShardMessage, now_us: int) -> None:
        voter = self.voters.get(message.shard)
        if voter is None or message.to_replica != voter.raft.replica:
            self.residence.misdirected(host, message, now_us)
            return
        if not voter.is_at(message.from_replica, host):
            self.residence.stranger(voter, host, message)
            return
        if voter.stopped:
            return
        self._touched[message.shard] = voter
        if isinstance(message, CopyChunk):
            self.copying.chunk_for_follower(voter, host, message, now_us)
        elif isinstance(message, CopyReply):
            self.copying.reply_of_follower(host, message, now_us)
        elif isinstance(message, CopyOrder):
            self.copying.ordered(voter, host, message, now_us)
        elif isinstance(message, CopyOrderReply):
            self.copying.orders.answered(voter, message, now_us)
        elif isinstance(message, HashCheck):
            voter.check_hash(message, host)
        elif isinstance(message, RemovalNotice):
            self.residence.told(voter, now_us)
        else:
            if type(message) is RequestPreVote:
                self.residence.asked_for_vote(voter, host, message.from_replica)
            voter.raft.step(message, now_us)

    def _peer_connected(self, event: events.PeerConnected) -> None:
        for voter in self.voters.values():
            voter.raft.peer_connected(event.host, event.now_us)
            self._touched[voter.shard] = voter

    def _peer_disconnected(self, event: events.PeerDisconnected) -> None:
        for voter in self.voters.values():
            voter.raft.peer_disconnected(event.host, event.now_us)
            self._touched[voter.shard] = voter

    def _connection_closed(self, event: events.ConnectionClosed) -> None:
        self.tree.connection_closed(event.connection)
        self.copying.connection_closed(event.connection, event.now_us)
        self.reads.connection_closed(event.connection)

    def _shard_map_kept(self, event: events.ShardMapKept) -> None:
        """A learner heard which shards there are: follow those that are not followed yet, from nothing."""
        if self.tree.learner is None:
            self.places.kept(event)
            return
        self.clients.shard_map = event.shard_map
        for shard in event.shard_map.shards:
            if shard.shard not in self.replicas:
                state = first_state(shard, event.shard_map.epoch)
                self._add_followed(RecoveredShard(shard.shard, HardState(), LogSummary(), state))

    def _link_frame(self, event: events.LinkFrameReceived) -> None:
        for message in event.messages:
            if isinstance(message, CopyChunk):
                self.copying.chunk_from_parent(event.connection, message, event.now_us)
            elif isinstance(message, CopyReply):
                self.copying.reply_of_child(event.connection, message, event.now_us)
            else:
                self.tree.received(event.connection, message, event.now_us)

    def _state_flushed(self, event: events.StateFlushed) -> None:
        self.flushing.flushed(event.number)
        self.compaction.share_room(replica.log.log_bytes for replica in self.replicas.values())
        for replica in self.replicas.values():
            self.compaction.consider(replica, event.now_us)
        for voter in self.voters.values():
            if voter.applied_behind:
                self._touched[voter.shard] = voter

    def _disk_space(self, event: events.DiskSpace) -> None:
        self.clients.disk_is_low = event.is_low

    # Turns out.

    @property
    def next_deadline_us(self) -> int:
        """When ``begin_turn`` must be called even if nothing happens; in the past when work is left over."""
        if self._touched or self.tree.busy or self.reads.waiting:
            return 0
        deadline_us = _FAR_FUTURE_US
        for other_us in (
            self._deadlines.deadline_us,
            self._disk_watch.deadline_us,
            self.rounds.deadline_us,
            self.pending.deadline_us,
            self.flushing.deadline_us,
            self.copying.deadline_us,
            self.tree.deadline_us,
        ):
            if other_us is not None and other_us < deadline_us:
                deadline_us = other_us
        return deadline_us

    def begin_turn(self, now_us: int) -> Turn:
        """Step all touched shards and hand out everything that came of it."""
        self._turn += 1
        self._tick(now_us)
        touched, self._touched = self._touched, {}
        for voter in touched.values():
            self._turn_of(voter, now_us)
            self._deadlines.arm(voter)
        self.rounds.send(now_us)
        self.tree.turn(now_us)
        self.copying.turn(now_us)
        self._telling.turn()
        self.reads.turn()
        self.administration.turn(now_us)
        outbox = self.outbox
        state_batch = self.flushing.take(now_us)
        log_batch = self.commits.submit(self._turn, now_us)
        self.copying.begin_installs(self.commits.has_unsubmitted)
        self.residence.turn(self.copying, self.commits.has_unsubmitted, now_us)
        return Turn(
            number=self._turn,
            messages=outbox.take_peer_messages(),
            link_messages=outbox.take_link_messages(),
            replies=outbox.take_replies(),
            log_batch=log_batch,
            state_batch=state_batch,
            copies=outbox.take_copies(),
            replicas=self.residence.take_commands(),
            shard_map=self.places.take_map() or self.tree.take_map_heard(),
            places=self.places.take_places(),
            closes=outbox.take_closes(),
            notes=outbox.take_notes(),
        )

    def _tick(self, now_us: int) -> None:
        self.rounds.tick(now_us)
        self._disk_watch.tick(now_us)
        for voter in self._deadlines.take_due(now_us):
            voter.tick(now_us)
            self._touched[voter.shard] = voter
        self.pending.expire(now_us)

    def _turn_of(self, voter: Voter, now_us: int) -> None:
        if voter.stopped:
            return
        if voter.collect(now_us):
            self.copying.leadership_lost(voter.shard, now_us)
        if voter.stopped:
            self._give_to_nobody(voter, now_us)
            return
        self._telling.turn_of(voter)
        for write in voter.take_writes():
            self.commits.write(write)
        for host, message in voter.take_held_messages():
            self.commits.hold(host, message)
        for replica in voter.take_copies_wanted():
            self.copying.wanted_by_follower(voter, replica, now_us)
        if voter.applied_behind:
            self._apply(voter, now_us)
        if voter.machine.membership is not voter.judged_membership:
            self.residence.judge(voter, now_us)
            if voter.stopped:
                return
        voter.compare()
        if voter.stopped:
            self._give_to_nobody(voter, now_us)
            return
        voter.pass_on_reads(self.reads)
        self.tree.committed(voter)
        if voter.log.log_bytes > self.compaction.log_bytes_max:
            self.compaction.look(voter, now_us)

    def _give_to_nobody(self, voter: Voter, now_us: int) -> None:
        """It has stopped: what is wrong with it must not reach learners, nor others as a copy."""
        self.tree.committed(voter)
        self.copying.stop_sending(voter.shard, now_us)

    def _apply(self, voter: Voter, now_us: int) -> None:
        if self.flushing.stalled or voter.installing:
            return  # The flush or the installation that ends touches it again.
        self.flushing.apply(voter, now_us)
        if voter.applied_behind:
            self._touched[voter.shard] = voter

    def finish_turn(self, number: int, now_us: int) -> Outcome:
        """The log batch of that turn is durable: what rested on it may leave."""
        submitted = self.commits.finish(number)
        for write in submitted.writes:
            voter = self.voters.get(write.shard)
            if voter is not None:
                voter.raft.persisted(write)
                self._touched[write.shard] = voter
            else:
                self.tree.persisted(write)
        for host, message in submitted.messages:
            self.outbox.to_host(host, message)
        self._telling.released()
        return Outcome(self.outbox.take_peer_messages())

    # What others ask.

    @property
    def tier(self) -> int:
        """This host's place in the read tree: 0 for a voter host."""
        return self.tree.tier

    def leads(self) -> tuple[ShardId, ...]:
        """The shards that this host leads."""
        return tuple(shard for shard, voter in self.voters.items() if voter.raft.role is Role.LEADER)
