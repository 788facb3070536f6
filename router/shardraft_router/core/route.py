"""Where the leader of one shard is thought to be, and when to ask again."""

from __future__ import annotations

from shardraft.errors import NotLeader, Overloaded, ShardraftError
from shardraft.shards.shard_map import Shard
from shardraft.types import NO_HOST, HostId
from shardraft_router.core.exchange import Exchange, Lane
from shardraft_router.core.links import Link, Links, LinkState


class ShardRoute:
    """The way to one shard's leader, shared by its writes and its linearizable reads.

    While ``failures`` is not 0 the leader is being searched: each lane then keeps one request under
    way at a time, until one is answered.
    """

    __slots__ = (
        "_exchange",
        "_links",
        "epoch",
        "failures",
        "lanes",
        "leader",
        "redirects",
        "resume_us",
        "shard",
        "voters",
    )

    def __init__(self, shard: Shard, epoch: int, links: Links, exchange: Exchange) -> None:
        self._links = links
        self._exchange = exchange
        self.leader: HostId = NO_HOST
        self.failures = 0
        self.redirects = 0
        self.resume_us = 0
        self.lanes: tuple[Lane, ...] = ()
        """Who goes this way, to be told when it is open again."""
        self.follow_map(shard, epoch)

    def follow_map(self, shard: Shard, epoch: int) -> None:
        """The map says this of the shard; what is known of its leader stays if it is still a voter."""
        self.shard = shard
        self.epoch = epoch
        voting = {*shard.membership.voters, *shard.membership.voters_outgoing}
        self.voters = tuple(member.host for member in shard.membership.members if member.replica in voting)
        if self.leader not in self.voters:
            # At bootstrap replica 1 lies on the next host for each shard: a fair first guess.
            self.leader = self.voters[0]

    @property
    def searching(self) -> bool:
        return self.failures > 0

    def link(self, now_us: int) -> Link | None:
        """The link to send to, or None for now; then a later connection, reply or ``wake_us`` brings the lane back."""
        if self.resume_us > now_us:
            self._exchange.wake_at(self.resume_us)
            return None
        link = self._links.of(self.leader)
        if link is None or link.state is LinkState.DOWN:
            # Any other may know better, and which of them does is unknown: always asking the same one
            # would be caught by a host that is cut off from the rest.
            others = [other for other in map(self._links.of, self.voters) if other is not None and other.up]
            if not others:
                return None
            link = self._exchange.random.choice(others)
            self.leader = link.host
        return link if link.up else None

    def reached(self, link: Link) -> None:
        """The host of ``link`` answered as only the leader does."""
        self.leader = link.host
        if self.failures or self.redirects or self.resume_us:
            self.failures = self.redirects = self.resume_us = 0
            for lane in self.lanes:
                self._exchange.queue(lane)

    def refused(self, link: Link, error: ShardraftError, now_us: int) -> None:
        """The host of ``link`` did not do what it was asked, or its connection closed."""
        if isinstance(error, Overloaded):
            self._pause(now_us, error.retry_after_ms * 1000 + self._exchange.back_off_us(1))
        elif link.host != self.leader:
            return  # Old news: another refusal, or an answer, has already moved the guess.
        elif isinstance(error, NotLeader) and self._is_known(error.leader) and error.leader != link.host:
            self.leader = error.leader
            self.redirects += 1
            if self.redirects > self._exchange.limits.redirects_max:
                self._fail(now_us)
        else:
            if isinstance(error, NotLeader) and error.leader != NO_HOST and not self._is_known(error.leader):
                self._exchange.map_is_old = True
            # A host that the map does not name as a voter may have become one since.
            place = self.voters.index(link.host) if link.host in self.voters else -1
            self.leader = self.voters[(place + 1) % len(self.voters)]
            self._fail(now_us)

    def _is_known(self, host: HostId) -> bool:
        """Whether the map says where ``host`` is; the voters of a shard may have changed since the map was heard."""
        return self._links.of(host) is not None

    def _fail(self, now_us: int) -> None:
        self.failures += 1
        self._pause(now_us, self._exchange.back_off_us(self.failures))

    def _pause(self, now_us: int, wait_us: int) -> None:
        self.resume_us = max(self.resume_us, now_us + wait_us)
        self._exchange.wake_at(self.resume_us)
