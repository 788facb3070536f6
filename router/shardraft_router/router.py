"""The operations of a cluster, as calls of a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from shardraft.errors import PartialWrite, ShardraftError
from shardraft.kv.commands import ANY_REVISION, DELETE, PUT
from shardraft.kv.requests import Consistency, LearnerPlace, MapRequest, StatusReply, StatusRequest
from shardraft_router.admin import Admin
from shardraft_router.core import Call, HostCall, Question, WriteGroup
from shardraft_router.core.checks import check_scan
from shardraft_router.driver import Driver
from shardraft_router.readings import Reading, reading_of
from shardraft_router.scan import Scan
from shardraft_router.values import (
    LINEARIZABLE,
    Delete,
    HostUnreachable,
    Put,
    ReadPolicy,
    condition_of,
    consistency_of,
    operation_of,
)

_LINEARIZABLE: Final = Consistency.LINEARIZABLE


class Router:
    """A cluster's keys and values: bytes in, bytes out. Made by ``open_router``; any task of its event loop may use it.

    The deadline of a call is the earlier of the caller's cancel scope and ``timeout_seconds``; within it the router
    retries whatever failed, and no write applies twice. Writes that are refused or whose answer never comes
    raise a ``ShardraftError`` whose ``applied`` is "no" or "unknown". A cancelled call that was not sent is
    dropped; one that was is abandoned: its outcome is unknown, the calls it was batched with go on.

    Calls of all tasks that are made in one pass of the event loop travel together; nothing waits for that. While
    ``in_flight_max`` calls are under way, further ones wait for their turn.

    Every call raises TypeError for keys or values that are not bytes, ``InvalidArgument`` for an empty or too
    long key, ``TooLarge`` for a too large value, all before anything is sent; ``DeadlineExceeded`` when the
    timeout passes first, with what stood in the way as its cause; RuntimeError in another thread, another
    event loop, a forked process, or after the router was closed.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._desk = driver.desk
        self._core = driver.core

    # --- single keys

    async def get(self, key: bytes, *, timeout_seconds: float | None = None) -> bytes | None:
        """The value of ``key``, None when it is absent. Linearizable."""
        desk = self._desk
        deadline_us = desk.begin(timeout_seconds) or await self._driver.take_turn(timeout_seconds)
        call = self._core.read(key, _LINEARIZABLE, deadline_us)
        await desk.wait(call)
        if call.error is not None:
            raise call.error
        return call.values[0]

    async def read(
        self,
        key: bytes,
        policy: ReadPolicy = LINEARIZABLE,
        *,
        timeout_seconds: float | None = None,
    ) -> Reading:
        """The value of ``key`` as fresh as ``policy`` asks, with its revision and where it came from."""
        desk = self._desk
        consistency = consistency_of(policy)
        deadline_us = desk.begin(timeout_seconds) or await self._driver.take_turn(timeout_seconds)
        call = self._core.read(key, consistency, deadline_us)
        await desk.wait(call)
        if call.error is not None:
            raise call.error
        return reading_of(call)

    async def put(
        self,
        key: bytes,
        value: bytes,
        *,
        if_revision: int | None = None,
        if_absent: bool = False,
        timeout_seconds: float | None = None,
    ) -> int:
        """Write ``value`` under ``key``; the key's revision from here on.

        With ``if_revision`` only if the key is at that revision (0: absent), with ``if_absent`` only if it is
        absent; else ``Conflict``, whose ``found_revision`` says where the key is.
        """
        desk = self._desk
        condition = ANY_REVISION
        if if_revision is not None or if_absent:
            condition = condition_of(if_revision, if_absent)
        deadline_us = desk.begin(timeout_seconds) or await self._driver.take_turn(timeout_seconds)
        call = self._core.write(PUT, key, value, condition, deadline_us)
        await desk.wait(call)
        if call.error is not None:
            raise call.error
        return call.revision

    async def delete(
        self, key: bytes, *, if_revision: int | None = None, timeout_seconds: float | None = None
    ) -> int | None:
        """Remove ``key``; the revision of the removal, None when the key was absent.

        With ``if_revision`` only if the key is at that revision, else ``Conflict``.
        """
        desk = self._desk
        condition = condition_of(if_revision, False)
        deadline_us = desk.begin(timeout_seconds) or await self._driver.take_turn(timeout_seconds)
        call = self._core.write(DELETE, key, b"", condition, deadline_us)
        await desk.wait(call)
        if call.error is not None:
            raise call.error
        return call.revision or None

    # --- many keys

    async def get_many(
        self,
        keys: Iterable[bytes],
        policy: ReadPolicy = LINEARIZABLE,
        *,
        timeout_seconds: float | None = None,
    ) -> dict[bytes, bytes]:
        """The values of those ``keys`` that exist, in the order asked for; each is read by itself (no snapshot)."""
        wanted = _no_text(keys, "keys")
        consistency = consistency_of(policy)
        desk = self._desk
        deadline_us = desk.begin(timeout_seconds)
        if not wanted:
            return {}
        deadline_us = deadline_us or await self._driver.take_turn(timeout_seconds)
        group = self._core.read_many(list(wanted), consistency, deadline_us)
        await desk.wait(group)
        if group.error is not None:
            raise group.error
        found = group.found()
        return {key: found[key] for key in wanted if key in found}

    async def put_many(self, items: Mapping[bytes, bytes], *, timeout_seconds: float | None = None) -> dict[bytes, int]:
        """Write every item, each key by itself; their revisions.

        Raises ``PartialWrite`` unless all were written: it says which were, which certainly were not, and of
        which it is unknown. Nothing is sent unless every key and value is good.
        """
        if not isinstance(items, Mapping):
            raise TypeError(f"put_many takes a mapping of keys to values, not {type(items).__name__}")
        desk = self._desk
        deadline_us = desk.begin(timeout_seconds)
        if not items:
            return {}
        keys, values = list(items.keys()), list(items.values())
        deadline_us = deadline_us or await self._driver.take_turn(timeout_seconds)
        group = self._core.put_many(keys, values, deadline_us)
        await desk.wait(group)
        revisions = group.revisions()
        if revisions is None:
            raise _partial_write(group)
        return revisions

    async def batch(self, writes: Sequence[Put | Delete], *, timeout_seconds: float | None = None) -> tuple[int, ...]:
        """Apply all ``writes`` or none, in order; the revision of each.

        All keys must lie in one shard (give them one ``{tag}``), else ``InvalidArgument``, nothing sent. Raises
        ``Conflict`` when a condition does not hold, ``TooLarge`` for more than 4,096 writes or 4 MiB.
        """
        operations = [operation_of(write) for write in writes]
        desk = self._desk
        deadline_us = desk.begin(timeout_seconds) or await self._driver.take_turn(timeout_seconds)
        call = self._core.write_atomic(operations, deadline_us)
        await desk.wait(call)
        if call.error is not None:
            raise call.error
        return call.revisions

    def scan(
        self,
        *,
        prefix: bytes = b"",
        start: bytes | None = None,
        end: bytes | None = None,
        limit: int | None = None,
        ordered: bool = True,
        policy: ReadPolicy = LINEARIZABLE,
        timeout_seconds: float | None = None,
    ) -> Scan:
        """Keys that begin with ``prefix`` and lie in [``start``, ``end``), with their values, at most ``limit``.

        ``ordered``: in the order of the keys. In a cluster with hash partitioning (the default) that merges all
        slots, which takes a request per slot (1,024) before the first entry, and reads each value after its key;
        ``ordered=False`` streams slot by slot, or whole shards when all keys are wanted, and is what to use
        for an export. A prefix with a whole ``{tag}`` lies in one slot and is cheap either way.
        """
        check_scan(prefix, start, end, limit)
        consistency = consistency_of(policy)
        self._driver.begin(timeout_seconds)
        return Scan(
            self._driver,
            prefix=prefix,
            start=start,
            end=end,
            limit=limit,
            ordered=ordered,
            consistency=consistency,
            timeout_seconds=timeout_seconds,
        )

    # --- the cluster

    @property
    def admin(self) -> Admin:
        """What an operator may ask of the cluster."""
        return Admin(self._driver)

    async def status(self, *, timeout_seconds: float | None = None) -> tuple[StatusReply | HostUnreachable, ...]:
        """What each voter host, then each learner, says of itself; ``HostUnreachable`` for one that says nothing.

        Without a single reachable host these are the given endpoints. Never raises for an unreachable host.
        """
        deadline_us = self._driver.begin(timeout_seconds)
        await self._survey(deadline_us)
        core = self._driver.core
        endpoints = dict.fromkeys([*core.voters, *(learner.endpoint for learner in core.learners)])
        calls = await self._ask(list(endpoints), StatusRequest, deadline_us)
        return tuple(
            call.reply if isinstance(call.reply, StatusReply) else HostUnreachable(call.endpoint, _error_of(call))
            for call in calls
        )

    @property
    def writes_retried(self) -> int:
        """How many operations this router had to send again so far; one that was sent thrice counts twice."""
        return self._driver.core.writes_retried

    async def learners(self, *, timeout_seconds: float | None = None) -> tuple[LearnerPlace, ...]:
        """The learners below all reachable voter hosts, in order of tier and host id."""
        await self._survey(self._driver.begin(timeout_seconds))
        return self._driver.core.learners

    async def _survey(self, deadline_us: int) -> None:
        """Hear from every voter host which learners it knows; only the first answer tells who the voters are."""
        core = self._driver.core
        asked: list[str] = []
        while new := [endpoint for endpoint in core.voters if endpoint not in asked]:
            asked += new
            await self._ask(new, MapRequest, deadline_us)

    async def _ask(self, endpoints: Sequence[str], question: Question, deadline_us: int) -> list[HostCall]:
        driver = self._driver
        calls = [driver.core.ask_host(endpoint, question, deadline_us) for endpoint in endpoints]
        try:
            for call in calls:
                if not call.done:
                    await driver.wait(call)
        finally:
            for call in calls:
                driver.core.cancel(call)
        return calls


def _no_text(keys: Iterable[bytes], what: str) -> dict[bytes, None]:
    # Iterating text or bytes would give characters or numbers, and an error that points nowhere.
    if isinstance(keys, str | bytes):
        raise TypeError(f"{what} must be a collection of bytes, not {type(keys).__name__}")
    return dict.fromkeys(keys)


def _error_of(call: Call) -> ShardraftError:
    assert call.error is not None, "a question was neither answered nor refused"
    return call.error


def _partial_write(group: WriteGroup) -> PartialWrite:
    """What became of each put, where not all were written."""
    written: dict[bytes, int] = {}
    not_applied: dict[bytes, ShardraftError] = {}
    unknown: dict[bytes, ShardraftError] = {}
    for key, outcome in zip(group.keys, group.outcomes, strict=True):
        if isinstance(outcome, int):
            written[key] = outcome
            continue
        error = outcome or group.error
        assert error is not None, "a group is done when the outcome of every key is known"
        (not_applied if error.applied == "no" else unknown)[key] = error
    partial = PartialWrite(written, not_applied, unknown)
    partial.__cause__ = next(iter([*unknown.values(), *not_applied.values()]))
    return partial
