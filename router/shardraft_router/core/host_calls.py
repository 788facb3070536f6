"""Questions to one particular host, learner or voter: its map and learners, its status, what an operator wants."""

from __future__ import annotations

from typing import Final

from shardraft.errors import ErrorCode, ProtocolError, ShardraftError, Unavailable
from shardraft.kv.requests import (
    ChangeMembersReply,
    ClientReply,
    ErrorReply,
    MapReply,
    PlaceReply,
    SnapshotReply,
    StatusReply,
    TransferReply,
)
from shardraft_router.core.calls import Certainty, HostCall
from shardraft_router.core.exchange import NEVER_US, Exchange, deadline_exceeded
from shardraft_router.core.links import Link, Links, LinkState
from shardraft_router.core.outcomes import refusal

_ANSWERS: Final = (MapReply, StatusReply, TransferReply, SnapshotReply, ChangeMembersReply, PlaceReply)


class HostAttempt:
    """A question under way."""

    __slots__ = ("_call", "_exchange", "sent_us")

    def __init__(self, call: HostCall, exchange: Exchange) -> None:
        self._call = call
        self._exchange = exchange
        self.sent_us = 0

    def answered(self, link: Link, reply: ClientReply, now_us: int) -> None:
        if isinstance(reply, ErrorReply):
            self._exchange.fail(self._call, refusal(reply.error, maybe_applied=False))
        elif isinstance(reply, _ANSWERS):
            self._call.reply = reply
            self._exchange.complete(self._call)
        else:
            raise ProtocolError(ErrorCode.INVALID_ARGUMENT, f"{type(reply).__name__} cannot be the reply to a question")

    def lost(self, link: Link, now_us: int, reason: ShardraftError) -> None:
        self._exchange.fail(self._call, refusal(reason, maybe_applied=self._call.changes))


class HostCalls:
    """The questions that are not answered; ``waiting`` ones wait for a connection."""

    def __init__(self, links: Links, exchange: Exchange) -> None:
        self._links = links
        self._exchange = exchange
        self.waiting: list[HostCall] = []
        self._asked: list[HostCall] = []

    def submit(self, call: HostCall) -> None:
        self._links.revive(call.endpoint)
        self.waiting.append(call)

    def links(self) -> list[Link]:
        """The links that must stay wanted for the sake of questions."""
        return [self._links.at(call.endpoint) for call in [*self.waiting, *self._asked] if not call.done]

    def flush(self, now_us: int) -> None:
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            link = self._links.at(call.endpoint)
            if call.done:
                continue
            if link.up:
                call.sent = True
                self._asked.append(call)
                request = call.question(self._exchange.take_request_id())
                self._exchange.send(link, HostAttempt(call, self._exchange), request, now_us)
            elif link.state is LinkState.DOWN:
                self._exchange.fail(call, Unavailable(f"{link.endpoint}: {link.reason}"))
            else:
                self.waiting.append(call)
        self._asked = [call for call in self._asked if not call.done]

    def expire(self, now_us: int) -> int:
        """Fail the questions whose deadline has passed; the earliest deadline that remains."""
        earliest = NEVER_US
        for call in [*self.waiting, *self._asked]:
            if not call.done and call.deadline_us <= now_us:
                certainty: Certainty = "unknown" if call.changes and call.sent else "no"
                self._exchange.fail(call, deadline_exceeded(certainty, None, None))
            elif not call.done and call.deadline_us < earliest:
                earliest = call.deadline_us
        return earliest

    def sweep(self) -> None:
        self.waiting = [call for call in self.waiting if not call.done]
        self._asked = [call for call in self._asked if not call.done]
        self._links.changed = True
