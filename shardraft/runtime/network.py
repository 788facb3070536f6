"""Where a turn's messages go: one sink per peer, one connection per client, child or parent."""

from __future__ import annotations

from typing import Protocol

from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.kv.requests import ClientReply
from shardraft.types import HostId
from shardraft.wire.client import encode_reply
from shardraft.wire.peer import encode_link_frame, encode_peer_frame


class FrameSink(Protocol):
    """Something that takes whole frames without blocking; False means that it is full or gone."""

    def send(self, data: bytes) -> bool: ...


class Closable(FrameSink, Protocol):
    """A connection: a sink that can be closed at once."""

    def close(self) -> None: ...


class Network:
    """Sends what a turn hands out. Never blocks: a full sink drops a peer's frame, a client is closed."""

    def __init__(self) -> None:
        self.peers: dict[HostId, FrameSink] = {}
        """Those that there is a connection to."""
        self.connections: dict[int, Closable] = {}
        self.frames_dropped = 0

    def send(self, messages: tuple[tuple[HostId, tuple[PeerMessage, ...]], ...]) -> None:
        """One frame per peer, unless it would be too large. What is dropped, Raft sends again."""
        by_host: dict[HostId, tuple[PeerMessage, ...]] = {}
        for host, of_host in messages:
            by_host[host] = by_host[host] + of_host if host in by_host else of_host
        for host, of_host in by_host.items():
            peer = self.peers.get(host)
            if peer is None or not peer.send(encode_peer_frame(of_host)):
                self.frames_dropped += 1

    def send_links(self, messages: tuple[tuple[int, tuple[LinkMessage, ...]], ...]) -> None:
        """A link is an ordered stream: one that cannot take a frame is closed, and attaches anew."""
        for number, of_link in messages:
            connection = self.connections.get(number)
            if connection is None:
                continue
            if not connection.send(encode_link_frame(of_link)):
                connection.close()

    def reply(self, replies: tuple[tuple[int, tuple[ClientReply, ...]], ...]) -> None:
        """A client that does not read its replies is closed when its outbox is full."""
        for number, of_client in replies:
            connection = self.connections.get(number)
            if connection is None:
                continue  # It went away; its writes stand, its reads need no answer.
            if not connection.send(b"".join([encode_reply(reply) for reply in of_client])):
                connection.close()

    def close(self, number: int) -> None:
        connection = self.connections.get(number)
        if connection is not None:
            connection.close()
