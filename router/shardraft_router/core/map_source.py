"""Asks hosts for the shard map and for the learners they know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.errors import ErrorCode, ProtocolError, ShardraftError
from shardraft.kv.requests import ClientReply, ErrorReply, MapReply, MapRequest
from shardraft_router.core.exchange import NEVER_US, Exchange
from shardraft_router.core.links import Link, Links

_PATIENCE_US: Final = 5_000_000
"""A refresh this long after the one before has nothing to do with it: its wait begins anew."""


class MapAttempt:
    """One request for the map."""

    __slots__ = ("sent_us", "source")

    def __init__(self, source: MapSource) -> None:
        self.source = source
        self.sent_us = 0

    def answered(self, link: Link, reply: ClientReply, now_us: int) -> None:
        self.source.ended()
        if isinstance(reply, MapReply):
            self.source.is_fresh(now_us)
            self.source.heard(link, reply, now_us)
        elif not isinstance(reply, ErrorReply):
            raise ProtocolError(
                ErrorCode.INVALID_ARGUMENT, f"{type(reply).__name__} cannot be the reply to a map request"
            )

    def lost(self, link: Link, now_us: int, reason: ShardraftError) -> None:
        self.source.ended()


class MapSource:
    """Every host is asked when it is connected, and one is asked again while anything waits for a newer map.

    ``heard`` is called with each reply. The wait between two refreshes grows while they do not help. Now and then one
    is asked though nothing waits for it: somebody whose calls all succeed would never hear of a host that
    joined, and have nobody to go to once those that it knows are gone.
    """

    __slots__ = (
        "_asked_learners_us",
        "_due_us",
        "_exchange",
        "_failures",
        "_links",
        "_prefer",
        "_resume_us",
        "_under_way",
        "heard",
    )

    def __init__(self, links: Links, exchange: Exchange, heard: Callable[[Link, MapReply, int], None]) -> None:
        self.heard = heard
        self._links = links
        self._exchange = exchange
        self._prefer: Link | None = None
        self._failures = 0
        self._resume_us = 0
        self._under_way = 0
        self._asked_learners_us = 0
        self._due_us = NEVER_US

    def ask(self, link: Link, now_us: int) -> None:
        self._under_way += 1
        self._exchange.send(link, MapAttempt(self), MapRequest(self._exchange.take_request_id()), now_us)

    def ended(self) -> None:
        self._under_way -= 1

    def is_fresh(self, now_us: int) -> None:
        """A map was heard; if it does not help, somebody says so again."""
        self._exchange.map_is_old = False
        self._due_us = now_us + self._exchange.limits.map_refresh_ms * 1000

    def is_wanted(self, now_us: int) -> bool:
        """Whether something waits for a newer map, or calls go on and the one that is known was heard long ago."""
        exchange = self._exchange
        return bool(exchange.strays or exchange.map_is_old or (exchange.requests and now_us >= self._due_us))

    def prefer(self, link: Link) -> None:
        """The host of ``link`` refused something for its map, so it is the one to ask."""
        self._prefer = link

    def refresh(self, now_us: int) -> None:
        """Something waits for a map: ask one host, unless one was just asked or the last answers did not help."""
        if self._under_way:
            return
        if now_us < self._resume_us:
            self._exchange.wake_at(self._resume_us)
            return
        ready = [link for link in self._links.by_endpoint.values() if link.up]
        if not ready:
            return
        chosen = self._prefer if self._prefer in ready else self._exchange.random.choice(ready)
        assert chosen is not None
        self._prefer = None
        self._failures = 1 if now_us > self._resume_us + _PATIENCE_US else self._failures + 1
        self._resume_us = now_us + self._exchange.back_off_us(self._failures)
        self.ask(chosen, now_us)

    def refresh_learners(self, now_us: int) -> None:
        """Stale reads go on: ask all voter hosts now and then, since each knows only the learners below it."""
        if now_us >= self._asked_learners_us + self._exchange.limits.learners_refresh_ms * 1000:
            self._asked_learners_us = now_us
            for link in self._links.up_voters():
                self.ask(link, now_us)
