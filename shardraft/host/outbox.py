"""What a host has to send: collected during a turn, taken once."""

from __future__ import annotations

from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.host.turn import CopyCommand, HostNote
from shardraft.kv.requests import ClientReply
from shardraft.types import HostId


class Outbox:
    """Effects in the order in which they arose; the owner is the host, every part of it adds.

    Nothing here rests on a write that is not durable: what does is kept by the turn (``turns``).
    """

    __slots__ = ("closes", "copies", "link_messages", "notes", "peer_messages", "replies")

    def __init__(self) -> None:
        self.peer_messages: dict[HostId, list[PeerMessage]] = {}
        self.link_messages: dict[int, list[LinkMessage]] = {}
        self.replies: dict[int, list[ClientReply]] = {}
        self.copies: list[CopyCommand] = []
        self.closes: list[int] = []
        self.notes: list[HostNote] = []

    def to_host(self, host: HostId, message: PeerMessage) -> None:
        waiting = self.peer_messages.get(host)
        if waiting is None:
            self.peer_messages[host] = [message]
        else:
            waiting.append(message)

    def to_link(self, connection: int, message: LinkMessage) -> None:
        self.link_messages.setdefault(connection, []).append(message)

    def reply(self, connection: int, reply: ClientReply) -> None:
        waiting = self.replies.get(connection)
        if waiting is None:
            self.replies[connection] = [reply]
        else:
            waiting.append(reply)

    def take_peer_messages(self) -> tuple[tuple[HostId, tuple[PeerMessage, ...]], ...]:
        if not self.peer_messages:
            return ()
        taken, self.peer_messages = self.peer_messages, {}
        return tuple((host, tuple(messages)) for host, messages in taken.items())

    def take_link_messages(self) -> tuple[tuple[int, tuple[LinkMessage, ...]], ...]:
        if not self.link_messages:
            return ()
        taken, self.link_messages = self.link_messages, {}
        return tuple((connection, tuple(messages)) for connection, messages in taken.items())

    def take_replies(self) -> tuple[tuple[int, tuple[ClientReply, ...]], ...]:
        if not self.replies:
            return ()
        taken, self.replies = self.replies, {}
        return tuple((connection, tuple(replies)) for connection, replies in taken.items())

    def take_copies(self) -> tuple[CopyCommand, ...]:
        if not self.copies:
            return ()
        taken, self.copies = self.copies, []
        return tuple(taken)

    def take_closes(self) -> tuple[int, ...]:
        if not self.closes:
            return ()
        taken, self.closes = self.closes, []
        return tuple(taken)

    def take_notes(self) -> tuple[HostNote, ...]:
        if not self.notes:
            return ()
        taken, self.notes = self.notes, []
        return tuple(taken)
