"""What becomes of the frames of each connection: decoded, with the time at which they came, they go to the inbox.

This module is compiled, since every frame passes through it; ``connections`` and ``links`` are what waits.
"""

from __future__ import annotations

from collections.abc import Callable

from shardraft.errors import ShardraftError, Unavailable
from shardraft.host.events import Event, LinkFrameReceived, PeerFrameReceived, RequestReceived
from shardraft.runtime.clock import now_us
from shardraft.types import HostId
from shardraft.wire.client import UnknownRequest, decode_request, refusal_of
from shardraft.wire.peer import decode_link_frame, decode_peer_frame


class Gate:
    """Whether requests are let in; one for all clients of a process."""

    def __init__(self) -> None:
        self.is_closed = False


class PeerIntake:
    """The frames of one voter host. ``take`` raises ``ProtocolError`` for what is none."""

    def __init__(self, put: Callable[[Event], None], host: HostId) -> None:
        self._put = put
        self._host = host

    def take(self, frames: list[bytes]) -> None:
        time_us = now_us()
        for frame in frames:
            self._put(PeerFrameReceived(time_us, self._host, decode_peer_frame(frame)))


class LinkIntake:
    """The frames of one child or parent. ``take`` raises ``ProtocolError`` for what is none."""

    def __init__(self, put: Callable[[Event], None], number: int) -> None:
        self._put = put
        self._number = number

    def take(self, frames: list[bytes]) -> None:
        time_us = now_us()
        for frame in frames:
            self._put(LinkFrameReceived(time_us, self._number, decode_link_frame(frame)))


class ClientIntake:
    """The requests of one client; ``refuse`` answers those that go no further. ``take`` raises ``ProtocolError``."""

    def __init__(
        self,
        put: Callable[[Event], None],
        number: int,
        gate: Gate,
        refuse: Callable[[int, ShardraftError], None],
    ) -> None:
        self._put = put
        self._number = number
        self._gate = gate
        self._refuse = refuse

    def take(self, frames: list[bytes]) -> None:
        time_us = now_us()
        for frame in frames:
            try:
                request = decode_request(frame)
            except UnknownRequest as unknown:
                self._refuse(unknown.request_id, refusal_of(unknown))
                continue
            if self._gate.is_closed:
                self._refuse(request.request_id, Unavailable("this host is stopping"))
            else:
                self._put(RequestReceived(time_us, self._number, request))
