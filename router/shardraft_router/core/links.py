"""The connections of a router as its core sees them: one link per endpoint, and what waits on each."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, Protocol

from shardraft.errors import ShardraftError, Unavailable
from shardraft.kv.requests import ClientReply
from shardraft.shards.shard_map import ShardMap
from shardraft.types import HostId


class Attempt(Protocol):
    """One request that is on its way, in the eyes of the link that carries it."""

    sent_us: int

    def answered(self, link: Link, reply: ClientReply, now_us: int) -> None:
        """The reply to it arrived. Raises ``ProtocolError`` when it cannot be the reply to this."""
        ...

    def lost(self, link: Link, now_us: int, reason: ShardraftError) -> None:
        """No reply will be accepted any more; whether the request was carried out is unknown."""
        ...


class LinkState(Enum):
    """CONNECTING until the driver's first word since the link became wanted."""

    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"


_UP: Final = LinkState.UP
"""Each request asks for it, and a member that is looked up on its class costs five times a constant."""


class Link:
    """One endpoint. ``host`` is 0 and ``tier`` meaningless until its hello, or the map, told them.

    ``pending`` holds what was sent and not answered by request id, oldest first. ``surveyed``: the
    host told once since it was first wanted which learners it knows, or could not be reached.
    """

    __slots__ = ("endpoint", "heard_us", "host", "pending", "reason", "state", "surveyed", "tier")

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.host: HostId = 0
        self.tier = 0
        self.state = LinkState.CONNECTING
        self.pending: dict[int, Attempt] = {}
        self.heard_us = 0
        self.surveyed = False
        self.reason = ""
        """Why it is down."""

    @property
    def up(self) -> bool:
        return self.state is _UP


class Links:
    """All links of a router. ``changed`` says that the wanted endpoints must be worked out again."""

    def __init__(self, seeds: Iterable[str]) -> None:
        self.by_endpoint: dict[str, Link] = {}
        self.by_host: dict[HostId, Link] = {}
        self.voters: tuple[HostId, ...] = ()
        self.changed = True
        self.seeds = tuple(self.at(endpoint) for endpoint in dict.fromkeys(seeds))
        self._wanted: dict[str, None] = {}
        self._places: dict[HostId, Link] = {}
        """The voter hosts' links by the map's own endpoints."""

    def at(self, endpoint: str) -> Link:
        """The link to ``endpoint``, made if need be."""
        link = self.by_endpoint.get(endpoint)
        if link is None:
            link = self.by_endpoint[endpoint] = Link(endpoint)
        return link

    def of(self, host: HostId) -> Link | None:
        """The best link to a voter host, or to a learner that said hello; None when another host lives there."""
        link = self.by_host.get(host)
        return link if link is not None and link.host == host else None

    def up_voters(self) -> list[Link]:
        """The voter hosts' links that are up, in order of host id."""
        return [link for host in self.voters if (link := self.of(host)) is not None and link.up]

    def revive(self, endpoint: str) -> None:
        """Something asks for this endpoint: what happened to it while nobody wanted it does not count."""
        link = self.at(endpoint)
        if endpoint not in self._wanted and not link.up:
            link.state = LinkState.CONNECTING
        self.changed = True

    def connected(self, endpoint: str, host: HostId, tier: int, now_us: int) -> Link:
        link = self.at(endpoint)
        assert not link.pending, f"requests outlived the former connection to {endpoint}"
        link.host, link.tier = host, tier
        link.state, link.reason, link.heard_us = LinkState.UP, "", now_us
        best = self.by_host.get(host)
        # An endpoint given by the user and the one in the map may be the same host under two names.
        if best is None or not best.up:
            self.by_host[host] = link
        self.changed = True
        return link

    def disconnected(self, link: Link, reason: str) -> None:
        link.state, link.reason, link.surveyed = LinkState.DOWN, reason, True
        self.changed = True
        if self.by_host.get(link.host) is link:
            twins = (other for other in self.by_endpoint.values() if other.host == link.host and other.up)
            self.by_host[link.host] = next(twins, self._places.get(link.host, link))

    def obstacle(self) -> Unavailable | None:
        """What keeps everything from being sent: no voter host, or as long as none is known no host, is connected."""
        if not self.voters:
            links = list(self.seeds)
        else:
            links = [link for host in self.voters if (link := self.of(host)) is not None]
        if any(link.up for link in links):
            return None
        reasons = [f"{link.endpoint}: {link.reason or 'not connected yet'}" for link in links]
        return Unavailable("no host can be reached: " + "; ".join(reasons))

    def adopt(self, shard_map: ShardMap) -> None:
        """Know the voter hosts of ``shard_map``."""
        for place in shard_map.hosts:
            link = self._places[place.host] = self.at(place.endpoint)
            if not link.up:
                link.host = place.host
            best = self.by_host.get(place.host)
            if best is None or not best.up:
                self.by_host[place.host] = link
        self.voters = tuple(sorted(place.host for place in shard_map.hosts))
        self.changed = True

    def wanted(self, others: Iterable[Link]) -> tuple[str, ...]:
        """The endpoints to be connected to: the voters', ``others``, and seeds as long as no voter is up."""
        links = [self.by_host[host] for host in self.voters]
        has_voter = any(link.up for link in links)
        links += [seed for seed in self.seeds if self._seed_is_wanted(seed, has_voter)]
        links += others
        # A link that is not needed any more is left alone until what is on it was answered.
        links += [link for link in map(self.at, self._wanted) if link.up and link.pending]
        wanted = {link.endpoint: None for link in links}
        for link in links:
            if link.endpoint not in self._wanted and not link.up:
                link.state = LinkState.CONNECTING
        self._wanted = wanted
        self.changed = False
        return tuple(wanted)

    def _seed_is_wanted(self, seed: Link, has_voter: bool) -> bool:
        if not has_voter or seed.state is LinkState.CONNECTING:
            return True
        best = self.by_host.get(seed.host)
        return best is not None and (best is seed or not best.up)
