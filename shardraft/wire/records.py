"""The messages between replicas as fixed-width records, little-endian (``schema/peer.capnp``)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from shardraft.host.messages import (
    CopyChunk,
    CopyOrder,
    CopyOrderOutcome,
    CopyOrderReply,
    CopyReply,
    HashCheck,
    OrderedChunk,
    RemovalNotice,
    Round,
    RoundReply,
)
from shardraft.raft.contact import Place
from shardraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    CommitAdvance,
    Heartbeat,
    HeartbeatReply,
    RequestPreVote,
    RequestPreVoteReply,
    RequestVote,
    RequestVoteReply,
    TimeoutNow,
)
from shardraft.wire.columns import Kind, Payloads, RecordKind, read_entries

Rows: TypeAlias = list[tuple[Any, ...]]

# shard | from_replica | to_replica | word | term, and then what the kind adds.
_PLAIN: Final = struct.Struct("<IIIIQ")
_ONE: Final = struct.Struct("<IIIIQQ")
_TWO: Final = struct.Struct("<IIIIQQQ")
_THREE: Final = struct.Struct("<IIIIQQQQ")
_CHUNK: Final = struct.Struct("<IIIIQQQQII")
_ORDERED_CHUNK: Final = struct.Struct("<IIIIQQQQIIQ")
_ORDER: Final = struct.Struct("<IIIIQQQII")

# number | version, and then what the kind adds; its lists are payloads.
_ROUND: Final = struct.Struct("<QQQ")
_ROUND_REPLY: Final = struct.Struct("<QQ")
_PLACE: Final = struct.Struct("<IIIIQ")

_FLAG: Final = 1


def _pack_pre_vote_request(message: RequestPreVote) -> bytes:
    m = message
    return _TWO.pack(m.shard, m.from_replica, m.to_replica, m.hint, m.term, m.last_log_index, m.last_log_term)


def _pack_vote_request(message: RequestVote) -> bytes:
    m = message
    return _TWO.pack(m.shard, m.from_replica, m.to_replica, m.transfer, m.term, m.last_log_index, m.last_log_term)


def _unpack_vote_requests(message: type) -> Callable[[Rows, list[bytes]], Sequence[Any]]:
    return lambda rows, _: [
        message(shard, term, sender, target, last_log_index, last_log_term, word & _FLAG == 1)
        for shard, sender, target, word, term, last_log_index, last_log_term in rows
    ]


def _pack_vote_reply(message: RequestVoteReply | RequestPreVoteReply) -> bytes:
    return _PLAIN.pack(message.shard, message.from_replica, message.to_replica, message.vote_granted, message.term)


def _unpack_vote_replies(message: type) -> Callable[[Rows, list[bytes]], Sequence[Any]]:
    return lambda rows, _: [
        message(shard, term, sender, target, word & _FLAG == 1) for shard, sender, target, word, term in rows
    ]


def _pack_append(message: AppendEntries) -> bytes:
    return _THREE.pack(
        message.shard,
        message.from_replica,
        message.to_replica,
        len(message.entries),
        message.term,
        message.prev_log_index,
        message.prev_log_term,
        message.leader_commit,
    )


def _entries_of(rows: Rows) -> int:
    return sum([row[3] for row in rows])


def _unpack_appends(rows: Rows, entries: list[bytes]) -> Sequence[AppendEntries]:
    groups = read_entries(entries, [(row[0], row[3]) for row in rows])
    return [
        AppendEntries(shard, term, sender, target, prev_log_index, prev_log_term, leader_commit, group)
        for (shard, sender, target, _, term, prev_log_index, prev_log_term, leader_commit), group in zip(
            rows, groups, strict=True
        )
    ]


def _pack_append_reply(message: AppendEntriesReply) -> bytes:
    return _THREE.pack(
        message.shard,
        message.from_replica,
        message.to_replica,
        message.success,
        message.term,
        message.match_index,
        message.conflict_index,
        message.conflict_term,
    )


def _unpack_append_replies(rows: Rows, _: list[bytes]) -> Sequence[AppendEntriesReply]:
    return [
        AppendEntriesReply(shard, term, sender, target, word & _FLAG == 1, match_index, conflict_index, conflict_term)
        for shard, sender, target, word, term, match_index, conflict_index, conflict_term in rows
    ]


def _pack_commit_advance(message: CommitAdvance) -> bytes:
    return _ONE.pack(message.shard, message.from_replica, message.to_replica, 0, message.term, message.commit_index)


def _unpack_commit_advances(rows: Rows, _: list[bytes]) -> Sequence[CommitAdvance]:
    return [CommitAdvance(shard, term, sender, target, index) for shard, sender, target, _, term, index in rows]


def _pack_heartbeat(message: Heartbeat) -> bytes:
    m = message
    return _TWO.pack(m.shard, m.from_replica, m.to_replica, 0, m.term, m.commit_index, m.round)


def _unpack_heartbeats(rows: Rows, _: list[bytes]) -> Sequence[Heartbeat]:
    return [
        Heartbeat(shard, term, sender, target, commit_index, number)
        for shard, sender, target, _, term, commit_index, number in rows
    ]


def _pack_heartbeat_reply(message: HeartbeatReply) -> bytes:
    return _ONE.pack(message.shard, message.from_replica, message.to_replica, 0, message.term, message.round)


def _unpack_heartbeat_replies(rows: Rows, _: list[bytes]) -> Sequence[HeartbeatReply]:
    return [HeartbeatReply(shard, term, sender, target, number) for shard, sender, target, _, term, number in rows]


def _pack_timeout_now(message: TimeoutNow) -> bytes:
    return _PLAIN.pack(message.shard, message.from_replica, message.to_replica, message.keep, message.term)


def _unpack_timeout_nows(rows: Rows, _: list[bytes]) -> Sequence[TimeoutNow]:
    return [TimeoutNow(shard, term, sender, target, word & _FLAG == 1) for shard, sender, target, word, term in rows]


def _pack_copy_chunk(message: CopyChunk) -> bytes:
    return _CHUNK.pack(
        message.shard,
        message.from_replica,
        message.to_replica,
        message.checksum,
        message.term,
        message.copy_id,
        message.index,
        message.index_term,
        message.number,
        message.chunks,
    )


def _unpack_copy_chunks(rows: Rows, chunks: list[bytes]) -> Sequence[CopyChunk]:
    return [
        CopyChunk(shard, term, sender, target, copy_id, index, index_term, number, count, checksum, data)
        for (shard, sender, target, checksum, term, copy_id, index, index_term, number, count), data in zip(
            rows, chunks, strict=True
        )
    ]


def _pack_copy_reply(message: CopyReply) -> bytes:
    m = message
    return _TWO.pack(m.shard, m.from_replica, m.to_replica, m.refused, m.term, m.copy_id, m.next_number)


def _unpack_copy_replies(rows: Rows, _: list[bytes]) -> Sequence[CopyReply]:
    return [
        CopyReply(shard, term, sender, target, copy_id, next_number, word & _FLAG == 1)
        for shard, sender, target, word, term, copy_id, next_number in rows
    ]


def _pack_ordered_chunk(message: OrderedChunk) -> bytes:
    return _pack_copy_chunk(message) + message.order.to_bytes(8, "little")


def _unpack_ordered_chunks(rows: Rows, chunks: list[bytes]) -> Sequence[OrderedChunk]:
    return [
        OrderedChunk(shard, term, sender, target, copy_id, index, index_term, number, count, checksum, data, order)
        for (shard, sender, target, checksum, term, copy_id, index, index_term, number, count, order), data in zip(
            rows, chunks, strict=True
        )
    ]


def _pack_copy_order(message: CopyOrder) -> bytes:
    m = message
    return _ORDER.pack(m.shard, m.from_replica, m.to_replica, 0, m.term, m.order, m.index_min, m.source, m.target)


def _unpack_copy_orders(rows: Rows, _: list[bytes]) -> Sequence[CopyOrder]:
    return [
        CopyOrder(shard, term, sender, receiver, order, index_min, source, target)
        for shard, sender, receiver, _, term, order, index_min, source, target in rows
    ]


def _pack_copy_order_reply(message: CopyOrderReply) -> bytes:
    m = message
    return _TWO.pack(m.shard, m.from_replica, m.to_replica, m.outcome, m.term, m.order, m.index)


def _unpack_copy_order_replies(rows: Rows, _: list[bytes]) -> Sequence[CopyOrderReply]:
    return [
        CopyOrderReply(shard, term, sender, target, order, index, _OUTCOMES[outcome])
        for shard, sender, target, outcome, term, order, index in rows
    ]


def _pack_hash_check(message: HashCheck) -> bytes:
    m = message
    return _TWO.pack(m.shard, m.from_replica, m.to_replica, 0, m.term, m.index, m.applied_hash)


def _unpack_hash_checks(rows: Rows, _: list[bytes]) -> Sequence[HashCheck]:
    return [
        HashCheck(shard, term, sender, target, index, applied_hash)
        for shard, sender, target, _, term, index, applied_hash in rows
    ]


def _pack_removal_notice(message: RemovalNotice) -> bytes:
    return _PLAIN.pack(message.shard, message.from_replica, message.to_replica, 0, message.term)


def _unpack_removal_notices(rows: Rows, _: list[bytes]) -> Sequence[RemovalNotice]:
    return [RemovalNotice(shard, term, sender, target) for shard, sender, target, _, term in rows]


def _pack_round(message: Round) -> bytes:
    return _ROUND.pack(message.number, message.version, message.since)


def _lists_of_round(message: Round) -> Sequence[bytes]:
    places = [_PLACE.pack(p.shard, p.from_replica, p.to_replica, 0, p.term) for p in message.places]
    return b"".join(places), _pack_shards(message.removed)


def _unpack_rounds(rows: Rows, lists: list[bytes]) -> Sequence[Round]:
    return [
        Round(number, version, since, _read_places(places), _read_shards(removed))
        for (number, version, since), places, removed in zip(rows, lists[::2], lists[1::2], strict=True)
    ]


def _lists_of_rounds(rows: Rows) -> int:
    return 2 * len(rows)


def _read_places(column: bytes) -> tuple[Place, ...]:
    return tuple([Place(shard, term, sender, target) for shard, sender, target, _, term in _PLACE.iter_unpack(column)])


def _pack_round_reply(message: RoundReply) -> bytes:
    return _ROUND_REPLY.pack(message.number, message.version)


def _unpack_round_replies(rows: Rows, lists: list[bytes]) -> Sequence[RoundReply]:
    return [
        RoundReply(number, version, _read_shards(excepted))
        for (number, version), excepted in zip(rows, lists, strict=True)
    ]


def _pack_shards(shards: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(shards)}I", *shards)


def _read_shards(column: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(column) >> 2}I", column)


_ENTRIES: Final = Payloads("entries", lambda message: [entry.encoded for entry in message.entries], _entries_of)
_OUTCOMES: Final = {int(outcome): outcome for outcome in CopyOrderOutcome}
_CHUNKS: Final = Payloads("chunks", lambda message: (message.data,))
_ORDERED_CHUNKS: Final = Payloads("orderedData", lambda message: (message.data,))
_ROUND_LISTS: Final = Payloads("roundLists", _lists_of_round, _lists_of_rounds)
_EXCEPTED: Final = Payloads("excepted", lambda message: (_pack_shards(message.excepted),))

COPY_KINDS: Final[dict[type, Kind]] = {
    CopyChunk: RecordKind(10, "copyChunks", _CHUNK, _pack_copy_chunk, _unpack_copy_chunks, _CHUNKS),
    CopyReply: RecordKind(11, "copyReplies", _TWO, _pack_copy_reply, _unpack_copy_replies),
}
"""What travels on every link."""

PEER_KINDS: Final[dict[type, Kind]] = {
    RequestPreVote: RecordKind(
        1, "requestPreVotes", _TWO, _pack_pre_vote_request, _unpack_vote_requests(RequestPreVote)
    ),
    RequestPreVoteReply: RecordKind(
        2, "requestPreVoteReplies", _PLAIN, _pack_vote_reply, _unpack_vote_replies(RequestPreVoteReply)
    ),
    RequestVote: RecordKind(3, "requestVotes", _TWO, _pack_vote_request, _unpack_vote_requests(RequestVote)),
    RequestVoteReply: RecordKind(
        4, "requestVoteReplies", _PLAIN, _pack_vote_reply, _unpack_vote_replies(RequestVoteReply)
    ),
    AppendEntries: RecordKind(5, "appendEntries", _THREE, _pack_append, _unpack_appends, _ENTRIES),
    AppendEntriesReply: RecordKind(6, "appendEntriesReplies", _THREE, _pack_append_reply, _unpack_append_replies),
    Heartbeat: RecordKind(7, "heartbeats", _TWO, _pack_heartbeat, _unpack_heartbeats),
    HeartbeatReply: RecordKind(8, "heartbeatReplies", _ONE, _pack_heartbeat_reply, _unpack_heartbeat_replies),
    TimeoutNow: RecordKind(9, "timeoutNows", _PLAIN, _pack_timeout_now, _unpack_timeout_nows),
    Round: RecordKind(12, "rounds", _ROUND, _pack_round, _unpack_rounds, _ROUND_LISTS),
    RoundReply: RecordKind(13, "roundReplies", _ROUND_REPLY, _pack_round_reply, _unpack_round_replies, _EXCEPTED),
    **COPY_KINDS,
    CommitAdvance: RecordKind(14, "commitAdvances", _ONE, _pack_commit_advance, _unpack_commit_advances),
    HashCheck: RecordKind(15, "hashChecks", _TWO, _pack_hash_check, _unpack_hash_checks),
    RemovalNotice: RecordKind(16, "removalNotices", _PLAIN, _pack_removal_notice, _unpack_removal_notices),
    CopyOrder: RecordKind(17, "copyOrders", _ORDER, _pack_copy_order, _unpack_copy_orders),
    CopyOrderReply: RecordKind(18, "copyOrderReplies", _TWO, _pack_copy_order_reply, _unpack_copy_order_replies),
    OrderedChunk: RecordKind(
        19, "orderedChunks", _ORDERED_CHUNK, _pack_ordered_chunk, _unpack_ordered_chunks, _ORDERED_CHUNKS
    ),
}
"""What travels between voter hosts."""
