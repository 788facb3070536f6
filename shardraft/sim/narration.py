"""The trace for a person: who sent what to whom, and what changed."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

import attrs

from shardraft.host.events import LinkFrameReceived, PeerFrameReceived, RequestReceived, Tick
from shardraft.host.host import Host
from shardraft.raft.entry import Entry
from shardraft.types import HostId, ShardId

_BYTES_SHOWN: Final = 24
_ITEMS_SHOWN: Final = 4
_ADDRESSES: Final = frozenset({"now_us", "shard", "term", "from_replica", "to_replica"})
"""Fields that stand before the name of a message, or say nothing in a line that has its time."""


def tell(node: int, event: object) -> list[str]:
    """What ``node`` takes in, a line for each message of a frame; nothing for the passing of time."""
    match event:
        case Tick():
            return []
        case PeerFrameReceived(host=host, messages=messages):
            return [f"{host}>{node} {show(message)}" for message in messages]
        case LinkFrameReceived(connection=connection, messages=messages):
            return [f"link {connection}>{node} {show(message)}" for message in messages]
        case RequestReceived(connection=connection, request=request):
            return [f"client {connection}>{node} {show(request)}"]
    return [f"{node} {show(event)}"]


def show(value: Any) -> str:
    """A value in a few words: a message by its shard, term and name, entries by index and term."""
    if isinstance(value, Entry):
        return f"{value.index}/{value.term}"
    if isinstance(value, bytes):
        return repr(value) if len(value) <= _BYTES_SHOWN else f"{value[:_BYTES_SHOWN]!r}... ({len(value)} bytes)"
    if isinstance(value, Enum):
        return str(value.value)
    if attrs.has(type(value)):
        return _show_fields(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        items = [show(item) for item in value[:_ITEMS_SHOWN]]
        if len(value) > _ITEMS_SHOWN:
            items += [f"... {show(value[-1])} ({len(value)} in all)"]
        return f"[{' '.join(items)}]"
    return str(value)


def _show_fields(value: Any) -> str:
    names = [field.name for field in attrs.fields(type(value)) if not field.name.startswith("_")]
    words = [f"shard {value.shard}"] if "shard" in names else []
    words += [f"term {value.term}"] if "term" in names else []
    words.append(type(value).__name__)
    words += [f"{name}={show(getattr(value, name))}" for name in names if name not in _ADDRESSES]
    return " ".join(words)


@attrs.frozen(slots=True)
class _Standing:
    """Where one voter stands."""

    role: str
    term: int
    leader: int
    commit_index: int
    last_applied: int
    last_index: int
    persisted_index: int


class Standings:
    """Remembers where each voter stood when it was last asked, and tells what is different."""

    def __init__(self) -> None:
        self._last: dict[tuple[HostId, ShardId], _Standing] = {}

    def changes(self, node: HostId, host: Host) -> list[str]:
        """A line for each shard of ``node`` that changed since the last time."""
        lines = []
        for shard, voter in host.voters.items():
            raft, log = voter.raft, voter.log
            standing = _Standing(
                raft.role.value,
                raft.term,
                raft.leader_host,
                raft.commit_index,
                voter.machine.last_applied,
                log.last_index,
                log.persisted_index,
            )
            before = self._last.get((node, shard))
            if standing != before:
                self._last[node, shard] = standing
                lines.append(f"{node} shard {shard}: {_difference(before, standing)}")
        return lines


def _difference(before: _Standing | None, after: _Standing) -> str:
    values, former = attrs.asdict(after), attrs.asdict(before) if before else {}
    changed = [name for name in values if former.get(name) != values[name]]
    return ", ".join(f"{name} {f'{former[name]} -> ' if former else ''}{values[name]}" for name in changed)
