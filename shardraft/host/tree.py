"""This host's place in the read tree: a feed for its children, and on a learner the link to its parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardraft.config import HostConfig
from shardraft.errors import ProtocolError
from shardraft.host.flushing import Flushing
from shardraft.host.learning import LearnerReplica
from shardraft.host.outbox import Outbox
from shardraft.host.replica import Replica
from shardraft.host.voter import Voter
from shardraft.kv.requests import ChildStatus, LearnerPlace
from shardraft.learner.feed import Feed
from shardraft.learner.learner import Learner
from shardraft.learner.messages import Attach, ChildHello, FeedAck, LearnerMessage, ParentHello
from shardraft.learner.ready import NOTHING_TO_FEED, NOTHING_TO_SAY, FeedReady, LearnerReady
from shardraft.raft.ready import LogWrite
from shardraft.shards.shard_map import ShardMap
from shardraft.types import NO_HOST, HostId, Index, ShardId


class Tree:
    """Every replica here is fed to whoever attaches; a learner's replicas are fed by its parent.

    ``write`` adds a log write to the forming batch.
    """

    def __init__(
        self,
        host: HostId,
        config: HostConfig,
        outbox: Outbox,
        flushing: Flushing,
        write: Callable[[LogWrite], None],
        shard_map: ShardMap | None,
        learner: Learner | None,
    ) -> None:
        self._host = host
        self.learner = learner
        self.feed = Feed(host, config.limits, config.raft.heartbeat_ms)
        self.replicas: dict[ShardId, LearnerReplica] = {}
        self._copies_wanted: list[tuple[int, ShardId]] = []
        self._map_heard: ShardMap | None = None
        self._outbox = outbox
        self._flushing = flushing
        self._write = write
        self._behind: dict[ShardId, LearnerReplica] = {}
        if self.learner is None:
            self.feed.set_hello(ParentHello(host, 0, (host,), shard_map))

    def tell_map(self, shard_map: ShardMap) -> None:
        """Clients are told another map from now on: so are children."""
        assert self.learner is None, "a learner is told its map by its parent"
        self.feed.set_hello(ParentHello(self._host, 0, (self._host,), shard_map))

    def add_fed(self, replica: Replica) -> None:
        """Offer a replica of this host to children."""

        def hash_at(index: Index) -> int | None:
            return replica.machine.applied_hash if replica.machine.last_applied == index else None

        self.feed.add_shard(replica.shard, replica.log, replica.commit_index, hash_at)

    def add_followed(self, replica: LearnerReplica) -> None:
        """Follow one more shard, and offer it to children in turn."""
        assert self.learner is not None
        replica.tier = lambda: self.tier
        self.replicas[replica.shard] = replica
        self._behind[replica.shard] = replica
        self.add_fed(replica)
        self.learner.add_shard(replica)

    @property
    def tier(self) -> int:
        """0 for a voter host; a learner that never heard from a parent says 1."""
        return 0 if self.learner is None else self.learner.tier or 1

    @property
    def parent(self) -> HostId:
        return NO_HOST if self.learner is None else self.learner.parent

    # Events.

    def parent_connected(self, connection: int, now_us: int) -> None:
        assert self.learner is not None, "only a learner has a parent"
        self.learner.connected(connection, now_us)

    def connection_closed(self, connection: int) -> None:
        if self.learner is not None:
            self.learner.disconnected(connection)
        self.feed.detach(connection)

    def received(self, connection: int, message: LearnerMessage, now_us: int) -> None:
        """A message of a child or of the parent; a child that breaks the rules loses its connection."""
        try:
            if isinstance(message, FeedAck):
                self.feed.acknowledged(connection, message)
            elif isinstance(message, Attach):
                self.feed.attach(connection, message)
            elif isinstance(message, ChildHello):
                self.feed.greet(connection, message)
            elif self.learner is not None:
                self.learner.received(connection, message, now_us)
            else:
                self._outbox.closes.append(connection)
        except ProtocolError:
            self._outbox.closes.append(connection)
            self.feed.detach(connection)

    def committed(self, voter: Voter) -> None:
        """The commit index of a voter's replica may have moved: at once to the children, not at a heartbeat.

        Only a replica that votes feeds children. One that is removed finds out, since it would stand for
        election; one that never became a voter may lag for ever and not know (decision 0018).
        """
        shard = voter.shard
        if voter.stopped or not voter.raft.is_voter:
            self.feed.remove_shard(shard)
        elif self.feed.holds(shard):
            self.feed.committed(shard, voter.commit_index)
        else:
            self.add_fed(voter)

    def persisted(self, write: LogWrite) -> None:
        """A learner's log write is durable: the parent may send as much again."""
        replica = self.replicas.get(write.shard)
        if replica is None or self.learner is None:
            return
        replica.log.persisted(write)
        if not replica.installing:
            self.learner.persisted(write.shard, replica.log.persisted_index)

    # Turns.

    @property
    def busy(self) -> bool:
        """Something is left for the next turn."""
        return bool(self._behind) and not self._flushing.stalled

    @property
    def deadline_us(self) -> int | None:
        feed_us = self.feed.next_deadline_us
        learner_us = self.learner.next_deadline_us if self.learner is not None else None
        if feed_us is None or learner_us is None:
            return learner_us if feed_us is None else feed_us
        return min(feed_us, learner_us)

    def turn(self, now_us: int) -> None:
        """Forward first, then write, then apply (cut-through: a relay's children do not wait for it)."""
        if self.learner is not None:
            self._turn_of_learner(self.learner, now_us)
        self.feed.tick(now_us)
        ready = self.feed.take_ready()
        if ready is not NOTHING_TO_FEED:
            self._send_feed(ready)

    def _turn_of_learner(self, learner: Learner, now_us: int) -> None:
        for replica in self.replicas.values():
            write = replica.take_write()
            if write is not None:
                if replica.serving:
                    self.feed.committed(replica.shard, replica.commit_index)
                self._write(write)
                self._behind[replica.shard] = replica
        if self._behind and not self._flushing.stalled:
            self._apply(now_us)
        learner.set_descendants(self.feed.descendants)
        learner.tick(now_us)
        ready = learner.take_ready()
        if ready is not NOTHING_TO_SAY:
            self._send_learner(learner, ready)
        self.feed.set_hello(learner.hello)

    def _apply(self, now_us: int) -> None:
        behind, self._behind = self._behind, {}
        for replica in behind.values():
            if not replica.installing:
                self._flushing.apply(replica, now_us)
                if replica.applied_behind:
                    self._behind[replica.shard] = replica

    def _send_learner(self, learner: Learner, ready: LearnerReady) -> None:
        for message in ready.messages:
            self._outbox.to_link(ready.connection, message)
        self._outbox.closes.extend(ready.closes)
        self._outbox.notes.extend(ready.notes)
        if ready.shard_map is not None:
            self._map_heard = ready.shard_map
        if ready.notes:
            self._stop_diverged(learner)

    def _stop_diverged(self, learner: Learner) -> None:
        for shard, replica in self.replicas.items():
            if replica.serving and learner.has_diverged(shard):
                replica.serving = False
                self.feed.remove_shard(shard)

    def _send_feed(self, ready: FeedReady) -> None:
        for connection, messages in ready.messages:
            self._outbox.link_messages.setdefault(connection, []).extend(messages)
        self._outbox.closes.extend(ready.closes)
        self._outbox.notes.extend(ready.notes)
        self._copies_wanted.extend(ready.copies_wanted)

    def restored(self, replica: LearnerReplica) -> None:
        """A copy was installed: go on from there, and tell parent and children."""
        assert self.learner is not None
        self.feed.committed(replica.shard, replica.commit_index)
        self.learner.copy_installed(replica.shard)
        self._behind[replica.shard] = replica

    def take_copies_wanted(self) -> Sequence[tuple[int, ShardId]]:
        """Children (by connection) whose next entry is compacted here."""
        if not self._copies_wanted:
            return ()
        taken, self._copies_wanted = self._copies_wanted, []
        return taken

    def take_map_heard(self) -> ShardMap | None:
        """A shard map that the parent told, to be kept; ``add_followed`` each shard once it is."""
        taken, self._map_heard = self._map_heard, None
        return taken

    # What others ask.

    def learner_places(self) -> tuple[LearnerPlace, ...]:
        """Every learner below this host that it knows of."""
        return tuple(
            LearnerPlace(place.host, place.endpoint, place.tier, place.parent) for place in self.feed.descendants
        )

    def children(self) -> tuple[ChildStatus, ...]:
        """The learners attached here and how far each is behind."""
        return tuple(
            ChildStatus(child.child, child.endpoint, self.tier + 1, child.lag_entries, True)
            for child in self.feed.children()
        )
