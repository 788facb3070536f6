"""The door: what a decoded batch must be before it may be appended.

A batch that passes can be applied by every replica for ever; one that does not would crash them all,
or outgrow a limit. Checks are over whole columns, since every batch pays for them.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from shardraft.config import Limits
from shardraft.errors import InvalidArgument, TooLarge, WrongShard
from shardraft.kv.commands import DELETE, PUT, Batch
from shardraft.shards.keyspace import SLOT_BYTES, KeyRange
from shardraft.types import INTEGER_MAX, ShardId

SESSION_BYTES: Final = 16
_KINDS: Final = bytes((PUT, DELETE))


def check_batch(
    batch: Batch, limits: Limits, shard: ShardId, key_range: KeyRange, epoch: int, slot_bytes: int = 0
) -> None:
    """Refuse what must not be appended. Refused means certainly not applied.

    ``slot_bytes``: how many leading bytes of each key are not the user's (2 with hash partitioning). Raises
    ``InvalidArgument``, ``TooLarge``, and ``WrongShard`` when not one of the keys lies in ``key_range``; a
    single key outside is that operation's own outcome.
    """
    try:
        _check_shape(batch, limits)
        _check_identity(batch, limits)
        _check_operations(batch, limits, slot_bytes)
    except (InvalidArgument, TooLarge) as refusal:
        refusal.shard = shard
        raise
    if not key_range.holds_all(batch.keys) and not any(key_range.holds(key) for key in batch.keys):
        raise WrongShard(epoch=epoch, shard=shard)


def _check_shape(batch: Batch, limits: Limits) -> None:
    count = len(batch.kinds)
    if count == 0:
        raise InvalidArgument("a batch without operations")
    if count > limits.batch_operations_max:
        raise TooLarge(f"a batch of {count} operations is above the limit of {limits.batch_operations_max}")
    if len(batch.keys) != count or len(batch.values) != count:
        raise InvalidArgument(f"{count} operations have {len(batch.keys)} keys and {len(batch.values)} values")
    if len(batch.conditions) not in (0, count):
        raise InvalidArgument(f"{count} operations have {len(batch.conditions)} conditions")
    if len(batch.positions) not in (0, count):
        raise InvalidArgument(f"{count} operations have {len(batch.positions)} positions")


def _check_identity(batch: Batch, limits: Limits) -> None:
    if len(batch.session) != SESSION_BYTES:
        raise InvalidArgument(f"a session id has {SESSION_BYTES} bytes, not {len(batch.session)}")
    if not 0 <= batch.answered_below <= batch.sequence <= INTEGER_MAX:
        raise InvalidArgument(f"sequence {batch.sequence} lies below {batch.answered_below}, the first unanswered one")
    if not batch.positions:
        return
    if batch.atomic:
        raise InvalidArgument("an atomic batch is sent whole: its operations are never regrouped")
    if not all(earlier < later for earlier, later in pairwise(batch.positions)):
        raise InvalidArgument("the positions of a batch must ascend")
    if batch.positions[0] < 0 or batch.positions[-1] >= limits.batch_operations_max:
        raise InvalidArgument(f"positions in a batch are 0 to {limits.batch_operations_max - 1}")


def _check_operations(batch: Batch, limits: Limits, slot_bytes: int) -> None:
    if batch.kinds.translate(None, _KINDS):
        raise InvalidArgument("a batch has an operation of unknown kind")
    key_sizes = list(map(len, batch.keys))
    value_sizes = list(map(len, batch.values))
    if min(key_sizes) <= slot_bytes:
        raise InvalidArgument("a key is empty")
    if max(key_sizes) > limits.key_bytes_max + SLOT_BYTES:
        raise InvalidArgument(f"a key is longer than {limits.key_bytes_max} bytes")
    if max(value_sizes) > limits.value_bytes_max:
        raise TooLarge(f"a value of {max(value_sizes)} bytes is above the limit of {limits.value_bytes_max}")
    batch_bytes = sum(key_sizes) + sum(value_sizes)
    if batch_bytes > limits.batch_bytes_max:
        raise TooLarge(f"a batch of {batch_bytes} bytes is above the limit of {limits.batch_bytes_max}")
    if DELETE in batch.kinds and any(
        size and kind == DELETE for kind, size in zip(batch.kinds, value_sizes, strict=True)
    ):
        raise InvalidArgument("a delete has a value")
    if batch.conditions and not (min(batch.conditions) >= 0 and max(batch.conditions) <= INTEGER_MAX):
        raise InvalidArgument("a condition is not a revision")
