"""What an operator asks of a running cluster, as calls of a program."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

import anyio

from shardraft.errors import (
    Applied,
    DeadlineExceeded,
    InvalidArgument,
    NotLeader,
    Overloaded,
    ShardraftError,
    Unavailable,
    WrongShard,
)
from shardraft.kv.requests import (
    ChangeMembersReply,
    ChangeMembersRequest,
    ClientReply,
    MapReply,
    MapRequest,
    PlaceReply,
    PlaceRequest,
    SnapshotReply,
    SnapshotRequest,
    TransferReply,
    TransferRequest,
)
from shardraft.shards.shard_map import ShardMap
from shardraft.types import NO_HOST, HostId, ShardId
from shardraft_router.core import Question
from shardraft_router.desk import now_us
from shardraft_router.driver import Driver
from shardraft_router.values import HostUnreachable

_ATTEMPT_MS: Final = 1_200
"""A host answers within this, if only to say that it is not done yet: well below ``RouterLimits.silence_ms_max``."""
_PAUSE_SECONDS: Final = 0.05
"""Between two attempts that came to nothing."""


class Admin:
    """Changes to a running cluster; ``Router.admin``.

    Every call may be made again, also after it failed: each says what is wanted, and nothing is done twice.
    Every call raises ``DeadlineExceeded`` when the timeout passes first (with what stood in the way as its cause;
    what it began goes on), and ``InvalidArgument`` for a shard or host that is not in the map.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def transfer(self, shard: ShardId, host: HostId, *, timeout_seconds: float | None = None) -> TransferReply:
        """Let the voter on ``host`` lead ``shard``, and keep it in office until another leads or it restarts.

        Returns who leads now; that may be another which was faster. Raises ``Conflict`` when ``host`` did not
        take over within an election timeout (the old leader then goes on), or another transfer is under way.
        """
        question = partial(TransferRequest, shard=shard, timeout_ms=_ATTEMPT_MS, host=host)
        reply = await self._ask_leader(shard, question, self._driver.begin(timeout_seconds))
        assert isinstance(reply, TransferReply), reply
        return reply

    async def snapshot(self, shard: ShardId, host: HostId, *, timeout_seconds: float | None = None) -> SnapshotReply:
        """Let ``host`` flush what it has applied of ``shard``, and compact its log behind that."""
        deadline_us = self._driver.begin(timeout_seconds)
        shard_map = await self._map(deadline_us)
        places = [place.endpoint for place in shard_map.hosts if place.host == host]
        if not places:
            raise InvalidArgument(f"host {host} is not in the map of this cluster")
        question = partial(SnapshotRequest, shard=shard, timeout_ms=_ATTEMPT_MS)
        reply = await self._ask_until_done(places, question, deadline_us)
        assert isinstance(reply, SnapshotReply), reply
        return reply

    async def change_members(
        self,
        shard: ShardId,
        *,
        add: HostId = NO_HOST,
        remove: HostId = NO_HOST,
        timeout_seconds: float | None = None,
    ) -> ChangeMembersReply:
        """Let a host join the voters of ``shard``, leave them, or one take the place of the other; 0 is none.

        Returns when the first step is committed; the others follow by themselves and show in ``Router.status``.
        Asking for what is so already, or on its way, changes nothing. Raises ``Conflict`` while another change
        is under way and for one after which the shard would have no majority of voters that live, and
        ``InvalidArgument`` for what makes no sense, such as the removal of the last voter.
        """
        question = partial(ChangeMembersRequest, shard=shard, timeout_ms=_ATTEMPT_MS, add=add, remove=remove)
        reply = await self._ask_leader(shard, question, self._driver.begin(timeout_seconds))
        assert isinstance(reply, ChangeMembersReply), reply
        return reply

    async def place(
        self, host: HostId, endpoint: str, *, timeout_seconds: float | None = None
    ) -> tuple[HostUnreachable, ...]:
        """Tell every voter host that ``host`` listens at ``endpoint``, or with an empty one that it is gone.

        Returns those that could not be told: a host that is down hears of others when they connect to it. Raises
        ``Conflict`` when ``host`` is to be forgotten and may still hold a replica.
        """
        deadline_us = self._driver.begin(timeout_seconds)
        shard_map = await self._map(deadline_us)
        untold = []
        for told in [place.endpoint for place in shard_map.hosts if endpoint or place.host != host]:
            outcome = await self._ask(told, partial(PlaceRequest, host=host, endpoint=endpoint), deadline_us)
            if isinstance(outcome, Unavailable | DeadlineExceeded):
                untold.append(HostUnreachable(told, outcome))
            elif isinstance(outcome, ShardraftError):
                raise outcome
            else:
                assert isinstance(outcome, PlaceReply), outcome
        return tuple(untold)

    # --- inside

    async def _map(self, deadline_us: int) -> ShardMap:
        driver = self._driver
        call = driver.core.await_map(deadline_us)
        await driver.wait(call)
        if call.error is not None:
            raise call.error
        shard_map = driver.core.shard_map
        assert shard_map is not None, "the map was awaited"
        return shard_map

    async def _ask_leader(self, shard: ShardId, question: Question, deadline_us: int) -> ClientReply:
        shard_map = await self._map(deadline_us)
        found = shard_map.shard_by_id(shard)
        if found is None:
            raise InvalidArgument(f"shard {shard} is not in the map of this cluster", shard=shard)
        hosts = [member.host for member in found.membership.members]
        places = {place.host: place.endpoint for place in shard_map.hosts}
        return await self._ask_until_done([places[host] for host in hosts], question, deadline_us, dict(places))

    async def _ask_until_done(
        self,
        endpoints: Sequence[str],
        question: Question,
        deadline_us: int,
        places: dict[HostId, str] | None = None,
    ) -> ClientReply:
        """Ask one of ``endpoints`` after the other, again and again, and whom a refusal names as the leader."""
        number = 0
        hint: str | None = None
        applied: Applied = "no"
        cause: ShardraftError | None = None
        while True:
            endpoint, hint = hint or endpoints[number % len(endpoints)], None
            outcome = await self._ask(endpoint, question, deadline_us)
            if not isinstance(outcome, ShardraftError):
                return outcome
            number += 1
            applied = "unknown" if outcome.applied == "unknown" else applied
            if not isinstance(outcome, NotLeader | Overloaded | Unavailable | DeadlineExceeded | WrongShard):
                raise outcome
            if isinstance(outcome, NotLeader) and outcome.leader != NO_HOST and places:
                if outcome.leader not in places:
                    await self._learn_places(endpoint, places, deadline_us)
                hint = places.get(outcome.leader)
            elif isinstance(outcome, DeadlineExceeded):
                hint = endpoint  # It is at work, and only asked for more time.
            if isinstance(outcome, WrongShard) and number >= len(endpoints):
                raise outcome
            cause = outcome if cause is None or not isinstance(outcome, DeadlineExceeded) else cause
            await self._pause(outcome, deadline_us, cause, applied)

    async def _learn_places(self, endpoint: str, places: dict[HostId, str], deadline_us: int) -> None:
        """A host named another that the map did not have: it knows where that is."""
        outcome = await self._ask(endpoint, MapRequest, deadline_us)
        if isinstance(outcome, MapReply):
            places.update((place.host, place.endpoint) for place in outcome.shard_map.hosts)

    async def _ask(self, endpoint: str, question: Question, deadline_us: int) -> ClientReply | ShardraftError:
        driver = self._driver
        call = driver.core.ask_host(endpoint, question, deadline_us, changes=True)
        try:
            await driver.wait(call)
        finally:
            driver.core.cancel(call)
        if call.error is not None:
            return call.error
        assert call.reply is not None, "a question was neither answered nor refused"
        return call.reply

    async def _pause(self, outcome: ShardraftError, deadline_us: int, cause: ShardraftError, applied: Applied) -> None:
        seconds = outcome.retry_after_ms / 1000 if isinstance(outcome, Overloaded) else _PAUSE_SECONDS
        if now_us() + seconds * 1e6 >= deadline_us:
            begun = "what was begun goes on" if applied == "unknown" else "nothing was begun"
            text = f"the deadline passed first; {begun}"
            if not isinstance(cause, DeadlineExceeded):
                text += f" ({cause})"
            raise DeadlineExceeded(text, applied=applied, shard=cause.shard) from cause
        await anyio.sleep(seconds)
