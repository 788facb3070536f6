"""Rounds between hosts: one heartbeat for every group that rests (PROTOCOL, "Rounds, quiescence"; decision 0010)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shardraft.config import RaftConfig
from shardraft.host.messages import ROUND_CHANGES_MAX, Round, RoundReply
from shardraft.host.outbox import Outbox
from shardraft.host.voter import Voter
from shardraft.raft.contact import Contact, Place
from shardraft.raft.ready import Refused
from shardraft.types import INTEGER_MAX, NO_SHARD, HostId, ShardId

_NEVER_US: Final = INTEGER_MAX

_ROUNDS_MIN: Final = 3
"""So many rounds lie within the shortest election timeout, unless heartbeats are rarer. No more than that: being woken
is what an idle host costs, and nothing else wakes it."""


class _Peer:
    """The rounds to one host, and those from it.

    To it: ``sent`` and ``answered`` are round numbers, ``held`` the version of the list that it is known to
    hold (0: nothing known). From it: ``heard`` is the number of its
    last round, ``owes`` whether that is not answered yet, ``version`` what is held of its list, ``followed``
    the shards on that list, ``silent`` whether those who rest were told to look at their timers.
    """

    __slots__ = ("answered", "contact", "followed", "heard", "held", "owes", "sent", "silent", "version")

    def __init__(self, first_number: int) -> None:
        self.contact = Contact(first_number)
        self.sent = self.answered = first_number
        self.held = 0
        self.heard = 0
        self.owes = False
        self.version = 0
        self.followed: set[ShardId] = set()
        self.silent = False


class Rounds:
    """All rounds of one host. ``first_number`` is above every number and version of its earlier starts.

    They prove nothing but that the peer's process lives, and serve election timers and check-quorum
    alone, so whatever goes wrong with them costs a wake-up or an election, never a promise. All rounds of
    a host leave in one turn, at once if they would leave soon anyway when one of a peer arrives, and an answer
    that excepts nothing goes along with the next of them: hosts fall into step, and two of them exchange one
    frame each way between two rounds.
    """

    def __init__(
        self,
        config: RaftConfig,
        first_number: int,
        voters: dict[ShardId, Voter],
        outbox: Outbox,
        touch: Callable[[Voter], None],
    ) -> None:
        self._first_number = first_number
        self._voters = voters
        self._outbox = outbox
        self._touch = touch
        self._silence_us = config.election_timeout_ms * 1000
        self._round_us = max(1000 * config.heartbeat_ms, self._silence_us // _ROUNDS_MIN)
        self._peers: dict[HostId, _Peer] = {}
        self._due_us = 0

    def contact_of(self, host: HostId) -> Contact:
        """The contact with ``host``; raft's way to the rounds."""
        return self._peer(host).contact

    def _peer(self, host: HostId) -> _Peer:
        peer = self._peers.get(host)
        if peer is None:
            peer = self._peers[host] = _Peer(self._first_number)
        return peer

    # Time

    @property
    def deadline_us(self) -> int | None:
        """When ``tick`` or ``send`` has something to do."""
        deadline_us = _NEVER_US
        for peer in self._peers.values():
            contact = peer.contact
            if self._due_us < deadline_us and (peer.owes or self._has_rounds(peer)):
                deadline_us = self._due_us
            if contact.led and contact.answered_us + self._silence_us < deadline_us:
                deadline_us = contact.answered_us + self._silence_us
            if peer.followed and not peer.silent and contact.heard_us + self._silence_us < deadline_us:
                deadline_us = contact.heard_us + self._silence_us
        return deadline_us if deadline_us < _NEVER_US else None

    def tick(self, now_us: int) -> None:
        """Whoever rests on a host that was not heard for the shortest election timeout looks for itself."""
        for peer in self._peers.values():
            contact = peer.contact
            if contact.led and now_us >= contact.answered_us + self._silence_us:
                for shard in list(contact.led):
                    self._wake_leader(peer, shard, now_us)
            if peer.followed and not peer.silent and now_us >= contact.heard_us + self._silence_us:
                peer.silent = True
                for voter in self._resting(peer, peer.followed):
                    voter.raft.contact_silent(now_us)
                    self._touch(voter)

    def send(self, now_us: int) -> None:
        """The rounds that are due leave; called when all groups have taken their turn."""
        if now_us < self._due_us:
            return
        for host, peer in self._peers.items():
            if self._has_rounds(peer):
                self._due_us = now_us + self._round_us
                peer.sent += 1
                self._outbox.to_host(host, self._round(peer))
            if peer.owes:
                self._due_us = now_us + self._round_us
                self._answer(host, peer)

    def _has_rounds(self, peer: _Peer) -> bool:
        contact = peer.contact
        version = contact.version
        return bool(contact.led) or (version != peer.held and version != self._first_number)

    def _round(self, peer: _Peer) -> Round:
        contact = peer.contact
        if contact.version == peer.held:
            return Round(peer.sent, peer.held, peer.held)
        version, shards = contact.changes_since(peer.held, ROUND_CHANGES_MAX)
        places = tuple(contact.led[shard] for shard in shards if shard in contact.led)
        removed = tuple(shard for shard in shards if shard not in contact.led)
        return Round(peer.sent, version, peer.held, places, removed)

    # A round arrives

    def received(self, host: HostId, message: Round, now_us: int) -> None:
        """Take the changes of the peer's list in, and answer; a round that was overtaken counts for nothing."""
        changes = len(message.places) + len(message.removed)
        if not 0 <= message.since <= message.version <= INTEGER_MAX or changes > ROUND_CHANGES_MAX:
            self._refuse(f"an impossible round {message.number} of host {host}")
            return
        peer = self._peer(host)
        if message.number <= peer.heard:
            return
        peer.heard = message.number
        peer.contact.heard_us = max(peer.contact.heard_us, now_us)
        peer.silent = False
        if message.since == 0:
            self._take_off(peer, sorted(peer.followed), now_us)
            peer.version = 0
        if message.since <= peer.version <= message.version:
            peer.version = message.version
            if changes:
                self._take_off(peer, message.removed, now_us)
                for place in message.places:
                    self._put_on(host, peer, place, now_us)
        peer.owes = True
        if peer.contact.left or peer.version != message.version or not self._has_rounds(peer):
            self._answer(host, peer)
        if self._due_us - now_us <= self._round_us // 2:
            self._due_us = min(self._due_us, now_us)

    def _answer(self, host: HostId, peer: _Peer) -> None:
        """The exceptions are those of this moment: a follower that left says so before it acknowledges again."""
        peer.owes = False
        excepted = tuple(sorted(peer.contact.left)[:ROUND_CHANGES_MAX])
        self._outbox.to_host(host, RoundReply(peer.heard, peer.version, excepted))

    def _take_off(self, peer: _Peer, shards: tuple[ShardId, ...] | list[ShardId], now_us: int) -> None:
        for voter in self._resting(peer, shards):
            voter.raft.wake(now_us)
            self._touch(voter)
        peer.followed.difference_update(shards)
        peer.contact.left.difference_update(shards)

    def _put_on(self, host: HostId, peer: _Peer, place: Place, now_us: int) -> None:
        voter = self._voters.get(place.shard)
        contact = peer.contact
        peer.followed.add(place.shard)
        contact.left.discard(place.shard)
        known = voter is not None and not voter.stopped and voter.is_at(place.from_replica, host)
        if voter is not None and known and voter.raft.rest(contact, place, now_us):
            self._touch(voter)
            return
        contact.left.add(place.shard)
        if voter is not None and voter.raft.resting_on is contact:
            voter.raft.wake(now_us)
            self._touch(voter)

    def _resting(self, peer: _Peer, shards: set[ShardId] | tuple[ShardId, ...] | list[ShardId]) -> list[Voter]:
        voters = [self._voters[shard] for shard in sorted(shards) if shard in self._voters]
        return [voter for voter in voters if voter.raft.resting_on is peer.contact]

    # An answer arrives

    def answered(self, host: HostId, message: RoundReply, now_us: int) -> None:
        """The peer lives; the groups that it excepts send rounds of their own again."""
        peer = self._peer(host)
        contact = peer.contact
        if message.number > peer.sent or message.version > INTEGER_MAX or len(message.excepted) > ROUND_CHANGES_MAX:
            self._refuse(f"host {host} answers round {message.number}, never sent, or impossibly")
            return
        if message.number <= peer.answered:
            return
        peer.answered = message.number
        contact.answered_us = max(contact.answered_us, now_us)
        if not max(peer.held, self._first_number) <= message.version <= contact.version:
            peer.held = 0  # It restarted, or missed something that is forgotten here: it is told all there is.
            return
        peer.held = message.version
        contact.forget_until(message.version)
        for shard in message.excepted:
            if shard in contact.led and contact.version_of(shard) <= message.version:
                self._wake_leader(peer, shard, now_us)

    def _wake_leader(self, peer: _Peer, shard: ShardId, now_us: int) -> None:
        voter = self._voters.get(shard)
        if voter is None:
            peer.contact.wake(shard)
            return
        voter.raft.wake(now_us)
        peer.contact.wake(shard)
        self._touch(voter)

    def _refuse(self, reason: str) -> None:
        self._outbox.notes.append(Refused(NO_SHARD, reason))
