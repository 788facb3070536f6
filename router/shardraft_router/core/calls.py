"""What a caller waits for: one plain object per operation, and groups of them.

These are mutable and slotted, not frozen attrs classes: one is made per operation, on the hot path.
A call belongs to the core until it is ``done``; then its result or ``error`` stands and never changes.
``waiter`` is the driver's own: whatever it needs to find who waits. ``group`` is the call that this
one is a part of; a part is not reported as completed, only its group is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import Literal, TypeAlias

from shardraft.errors import ShardraftError
from shardraft.kv.commands import ANY_REVISION, PUT
from shardraft.kv.requests import ClientReply, ClientRequest, Consistency

Certainty: TypeAlias = Literal["no", "unknown"]
"""What is known of an operation that has no result: certainly not applied, or outcome unknown."""


class Call:
    """What all calls have in common. ``deadline_us`` is on the clock of the driver's ``now_us``."""

    __slots__ = ("deadline_us", "done", "error", "group", "sent", "waiter")

    deadline_us: int
    done: bool
    error: ShardraftError | None
    group: Group | None
    sent: bool
    waiter: object

    def __init__(self, deadline_us: int, group: Group | None = None) -> None:
        self.deadline_us = deadline_us
        self.done = False
        self.error = None
        self.group = group
        self.sent = False
        self.waiter = None


class WriteCall(Call):
    """One put or delete. ``key`` is the user's key until the call is routed, then the routing key.

    Once done without error, ``revision`` is the operation's; 0 says that a delete found no key. ``place`` is its place
    in a ``WriteGroup``.
    """

    __slots__ = ("condition", "key", "kind", "place", "revision", "value")

    # Spelled out rather than calling Call.__init__: this runs once per operation.
    def __init__(
        self,
        kind: int,
        key: bytes,
        value: bytes,
        condition: int,
        deadline_us: int,
        group: Group | None = None,
        place: int = 0,
    ) -> None:
        self.kind = kind
        self.key = key
        self.value = value
        self.condition = condition
        self.deadline_us = deadline_us
        self.group = group
        self.done = False
        self.sent = False
        self.error: ShardraftError | None = None
        self.waiter: object = None
        self.revision = 0
        self.place = place


class PutsCall(Call):
    """Puts of one ``WriteGroup`` that lie in one shard, as columns: routing ``keys``, ``values``, ``places`` in it.

    ``size_bytes`` is that of keys and values. Once all are written, the first is at ``first_revision`` and each
    further one at the next. Whatever befalls only some of them befalls the calls that the group divides it into.
    """

    __slots__ = ("first_revision", "keys", "places", "size_bytes", "values")

    def __init__(self, group: WriteGroup) -> None:
        super().__init__(group.deadline_us, group)
        self.keys: list[bytes] = []
        self.values: list[bytes] = []
        self.places: list[int] = []
        self.size_bytes = 0
        self.first_revision = 0


class AtomicCall(Call):
    """A caller's batch: all or nothing, on one shard. ``revisions`` has one number per operation once done."""

    __slots__ = ("conditions", "keys", "kinds", "revisions", "values")

    def __init__(
        self,
        kinds: bytes,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        conditions: Sequence[int],
        deadline_us: int,
    ) -> None:
        super().__init__(deadline_us)
        self.kinds = kinds
        self.keys = keys
        self.values = values
        self.conditions = conditions
        self.revisions: tuple[int, ...] = ()


class ReadCall(Call):
    """The values of ``keys`` (user keys until routed, then routing keys of one shard).

    ``values`` and ``revisions`` fill up in the order of ``keys``. ``applied_index``, ``age_us``,
    ``tier`` and ``served_by`` (an endpoint) are those of the last reply. ``age_us`` was an upper
    bound of the answer's age at ``completed_us``.
    """

    __slots__ = (
        "age_us", "applied_index", "completed_us", "consistency", "keys", "revisions", "served_by", "tier", "values",
    )  # fmt: skip

    def __init__(
        self, keys: Sequence[bytes], consistency: Consistency, deadline_us: int, group: Group | None = None
    ) -> None:
        self.keys = keys
        self.consistency = consistency
        self.deadline_us = deadline_us
        self.group = group
        self.done = False
        self.sent = False
        self.error: ShardraftError | None = None
        self.waiter: object = None
        self.values: Sequence[bytes | None] = ()
        self.revisions: Sequence[int] = ()
        self.applied_index = 0
        self.age_us: int | None = None
        self.completed_us = 0
        self.tier = 0
        self.served_by = ""


class PageCall(Call):
    """One page of a scan: up to ``limit`` keys in [``start``, ``end``), routing keys; an empty ``end`` means no end.

    Once done without error, ``next_start`` is where the rest begins, or None when nothing is left.
    """

    __slots__ = (
        "consistency", "end", "found_keys", "found_values", "keys_only", "limit", "next_start", "shard_end", "start",
    )  # fmt: skip

    def __init__(
        self, start: bytes, end: bytes, limit: int, keys_only: bool, consistency: Consistency, deadline_us: int
    ) -> None:
        super().__init__(deadline_us)
        self.start = start
        self.end = end
        self.limit = limit
        self.keys_only = keys_only
        self.consistency = consistency
        self.found_keys: Sequence[bytes] = ()
        self.found_values: Sequence[bytes] = ()
        self.next_start: bytes | None = None
        self.shard_end = b""
        """The end of the shard that was asked, as of the asking; empty means none."""


Question: TypeAlias = Callable[[int], ClientRequest]
"""Makes the request of a question from its request id."""


class HostCall(Call):
    """A question to one endpoint, answered by that very host or not at all; ``reply`` once done.

    ``changes``: it asks for something to be done, so that without an answer its outcome is unknown.
    """

    __slots__ = ("changes", "endpoint", "question", "reply")

    def __init__(self, endpoint: str, question: Question, deadline_us: int, changes: bool) -> None:
        super().__init__(deadline_us)
        self.endpoint = endpoint
        self.question = question
        self.changes = changes
        self.reply: ClientReply | None = None


class Group(Call):
    """A call that is done when all its parts are. A part that fails does not fail the others."""

    __slots__ = ("parts", "remaining")

    parts: list[Call]

    def __init__(self, deadline_us: int) -> None:
        super().__init__(deadline_us)
        self.parts = []
        self.remaining = 0

    def adopt(self, parts: Sequence[Call]) -> None:
        """Take ``parts``, whose ``group`` must be this one, as all there is to wait for."""
        assert parts, "a group of nothing would never be done"
        self.parts = list(parts)
        self.remaining = len(parts)

    def part_done(self, part: Call) -> bool:
        """Whether with ``part`` the whole group is done."""
        self.remaining -= 1
        assert self.remaining >= 0, "a part completed twice"
        return self.remaining == 0


class WriteGroup(Group):
    """Puts that were asked for together, each on its own: user ``keys``, and their ``values`` until they are routed.

    ``outcomes`` has for each key its revision, or its error, or None while neither is known; ``any_failed`` says
    whether an error is among them. A group that failed before it had parts has an ``error`` of its own instead.
    """

    __slots__ = ("any_failed", "keys", "outcomes", "values")

    def __init__(self, keys: Sequence[bytes], values: Sequence[bytes], deadline_us: int) -> None:
        super().__init__(deadline_us)
        self.keys = keys
        self.values = values
        self.outcomes: list[int | ShardraftError | None] = [None] * len(keys)
        self.any_failed = False

    def part_done(self, part: Call) -> bool:
        outcomes = self.outcomes
        self.any_failed |= part.error is not None
        if isinstance(part, PutsCall):
            revision = part.first_revision
            for place in part.places:
                outcomes[place] = revision if part.error is None else _own(part.error)
                revision += 1
        else:
            assert isinstance(part, WriteCall), "only puts are parts of such a group"
            outcomes[part.place] = part.revision if part.error is None else part.error
        return super().part_done(part)

    def revisions(self) -> dict[bytes, int] | None:
        """The revisions of all keys, once done; None unless all were written."""
        if self.any_failed or self.error is not None:
            return None
        return dict(zip(self.keys, self.outcomes, strict=True))  # type: ignore[arg-type]  # None of them is an error.

    def divide(self, part: PutsCall) -> list[WriteCall]:
        """A call for each put of ``part``, which they take the place of."""
        singles: list[WriteCall] = []
        for key, value, place in zip(part.keys, part.values, part.places, strict=True):
            single = WriteCall(PUT, key, value, ANY_REVISION, part.deadline_us, self, place)
            single.sent, single.done, single.error = part.sent, part.done, part.error
            singles.append(single)
        if not part.done:
            # It stays among the parts, where nobody asks for what is done: to look for it would cost a pass for each.
            part.done = True
            self.parts.extend(singles)
            self.remaining += len(singles) - 1
        return singles


def _own(error: ShardraftError) -> ShardraftError:
    """An error like ``error`` for one key, since whoever raises it may change it."""
    own = copy(error)
    own.__cause__ = error.__cause__
    return own


class ReadGroup(Group):
    """Reads of many user ``keys``, in parts of one shard each; the first part that fails fails the group.

    ``slot_bytes``: how many leading bytes of the parts' routing keys are not the user's.
    """

    __slots__ = ("consistency", "keys", "slot_bytes")

    def __init__(self, keys: Sequence[bytes], consistency: Consistency, deadline_us: int) -> None:
        super().__init__(deadline_us)
        self.keys = keys
        self.consistency = consistency
        self.slot_bytes = 0

    def found(self) -> dict[bytes, bytes]:
        """The user keys that exist, with their values; once done without error."""
        skip = self.slot_bytes
        reads = (part for part in self.parts if isinstance(part, ReadCall))
        return {
            key[skip:]: value
            for read in reads
            for key, value in zip(read.keys, read.values, strict=True)
            if value is not None
        }

    def add_parts(self, parts: Sequence[ReadCall]) -> None:
        """A part of this group was divided, since its keys lie in several shards by now."""
        self.parts.extend(parts)
        self.remaining += len(parts)

    def part_done(self, part: Call) -> bool:
        if part.error is None:
            return super().part_done(part)
        self.error = part.error
        for other in self.parts:
            other.done = True
        return True
