"""One of each message, with every field set to something that a mistake would change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs

from shardraft.errors import (
    Compacted,
    Conflict,
    DeadlineExceeded,
    ErrorCode,
    InvalidArgument,
    NotLeader,
    NotYet,
    Overloaded,
    PermissionDenied,
    SessionExpired,
    ShardraftError,
    StaleDisk,
    TooLarge,
    TooStale,
    Unavailable,
    Unimplemented,
    WrongShard,
)
from shardraft.host.messages import (
    CopyChunk,
    CopyOrder,
    CopyOrderOutcome,
    CopyOrderReply,
    CopyReply,
    HashCheck,
    LinkMessage,
    OrderedChunk,
    PeerMessage,
    RemovalNotice,
    Round,
    RoundReply,
)
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT, Batch, BatchResult
from shardraft.kv.machine import MachineState, SessionRecord
from shardraft.kv.requests import (
    ChangeMembersReply,
    ChangeMembersRequest,
    ChildStatus,
    ClientReply,
    ClientRequest,
    Consistency,
    ErrorReply,
    FollowerStatus,
    LearnerPlace,
    MapReply,
    MapRequest,
    PlaceReply,
    PlaceRequest,
    ReadReply,
    ReadRequest,
    ScanReply,
    ScanRequest,
    ShardStatus,
    SnapshotReply,
    SnapshotRequest,
    StatusReply,
    StatusRequest,
    TransferReply,
    TransferRequest,
    WriteReply,
    WriteRequest,
)
from shardraft.learner.messages import (
    Attach,
    AttachOutcome,
    AttachReply,
    ChildHello,
    DescendantPlace,
    FeedAck,
    FeedEntries,
    FeedHeartbeat,
    ParentHello,
)
from shardraft.raft.contact import Place
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.membership import encode_membership
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
from shardraft.raft.ready import HardState
from shardraft.shards.keyspace import KeyRange
from shardraft.shards.shard_map import HostPlace, Partitioning, Shard, ShardMap
from shardraft.types import Identity, Member, Membership
from shardraft.wire.client import (
    CapnpBatchCodec,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from shardraft.wire.hello import (
    Hello,
    HelloRefused,
    HelloReply,
    Role,
    decode_hello,
    decode_hello_reply,
    encode_hello,
    encode_hello_reply,
)
from shardraft.wire.peer import decode_link_frame, decode_peer_frame, encode_link_frame, encode_peer_frame
from shardraft.wire.stored import (
    decode_hard_state,
    decode_identity,
    decode_machine_state,
    decode_shard_map,
    encode_hard_state,
    encode_identity,
    encode_machine_state,
    encode_shard_map,
)

CLUSTER: Final = bytes(range(16))
SESSION: Final = bytes(range(16, 32))
CODEC: Final = CapnpBatchCodec()

BATCH: Final = Batch(
    session=SESSION,
    sequence=17,
    answered_below=12,
    opens_session=True,
    atomic=True,
    epoch=3,
    kinds=bytes((PUT, DELETE, PUT)),
    keys=[b"\x00\x01a", b"\x00\x01\xff\n../b", b"\x00\x02"],
    values=[b"one", b"", b"three" * 9],
    conditions=(ABSENT, 41, ANY_REVISION),
    positions=(0, 5, 7),
)
SHARD_MAP: Final = ShardMap(
    cluster_id=CLUSTER,
    epoch=5,
    partitioning=Partitioning.HASH,
    slots=1024,
    hosts=(HostPlace(1, "127.0.0.1:4001"), HostPlace(2, "[::1]:4002"), HostPlace(3, "c.example:4003")),
    shards=(
        Shard(1, KeyRange(b"", b"\x02\x00"), Membership.of({1: 1, 2: 2, 3: 3})),
        Shard(
            2,
            KeyRange(b"\x02\x00", b""),
            Membership((Member(1, 1), Member(4, 2), Member(5, 3)), (1, 4), (1,), staging=(5,), leaving=(4,)),
        ),
    ),
)
ENTRIES: Final = tuple(
    encode_entry(7, index, 3, EntryKind.BATCH, 1000 + index, bytes([index]) * index) for index in (11, 12, 13)
)

PEER_MESSAGES: Final[tuple[PeerMessage, ...]] = (
    RequestPreVote(7, 4, 1, 2, last_log_index=13, last_log_term=3, hint=True),
    RequestPreVoteReply(7, 4, 2, 1, vote_granted=True),
    RequestVote(7, 4, 1, 2, last_log_index=13, last_log_term=3, transfer=True),
    RequestVoteReply(7, 4, 2, 1, vote_granted=False),
    AppendEntries(7, 4, 1, 2, prev_log_index=10, prev_log_term=2, leader_commit=9, entries=ENTRIES),
    AppendEntries(8, 5, 3, 4, prev_log_index=1, prev_log_term=1, leader_commit=1),
    AppendEntriesReply(7, 4, 2, 1, success=False, match_index=10, conflict_index=8, conflict_term=2),
    AppendEntries(7, 4, 1, 3, prev_log_index=12, prev_log_term=3, leader_commit=9, entries=ENTRIES[2:]),
    CommitAdvance(7, 4, 1, 2, commit_index=9),
    Heartbeat(7, 4, 1, 2, commit_index=9, round=77),
    HeartbeatReply(7, 4, 2, 1, round=77),
    TimeoutNow(7, 4, 1, 2),
    CopyChunk(
        7, 4, 1, 2, copy_id=6, index=9, index_term=3, number=0, chunks=2, checksum=0xFFFFFFFF, data=b"chunk" * 20
    ),
    CopyReply(7, 4, 2, 1, copy_id=6, next_number=1, refused=True),
    HashCheck(7, 4, 1, 2, index=256, applied_hash=2**64 - 1),
    RemovalNotice(7, 4, 1, 3),
    Round(90, version=12, since=10, places=(Place(7, 4, 1, 2), Place(8, 2**62, 3, 2**32 - 1)), removed=(9,)),
    Round(91, version=12, since=12),
    RoundReply(90, version=12, excepted=(7, 9)),
    RoundReply(91, version=12),
)
ORDERED_MESSAGES: Final[tuple[PeerMessage, ...]] = (
    CopyOrder(7, 4, 1, 2, order=5 << 32, index_min=8, source=2, target=3),
    CopyOrderReply(7, 4, 2, 1, order=5 << 32, index=9, outcome=CopyOrderOutcome.SENDING),
    OrderedChunk(7, 4, 2, 3, 6, 9, 3, number=1, chunks=2, checksum=1, data=b"chunk" * 20, order=5 << 32),
    CopyChunk(7, 4, 1, 3, copy_id=6, index=9, index_term=3, number=0, chunks=2, checksum=2, data=b"leader's"),
    OrderedChunk(7, 4, 2, 3, 6, 9, 3, number=0, chunks=2, checksum=0xFFFFFFFF, data=b"", order=2**64 - 1),
    CopyOrder(7, 4, 1, 3, order=2**64 - 1, index_min=8, source=1, target=3),
    CopyOrderReply(7, 4, 2, 1, order=5 << 32, index=9, outcome=CopyOrderOutcome.INSTALLED),
    CopyOrderReply(7, 4, 2, 1, order=5 << 32, index=0, outcome=CopyOrderOutcome.FAILED),
)
LINK_MESSAGES: Final[tuple[LinkMessage, ...]] = (
    ChildHello(9, "127.0.0.1:5009", (DescendantPlace(10, "127.0.0.1:5010", 2, 9),)),
    ParentHello(1, 0, (1,), SHARD_MAP),
    ParentHello(10, 2, (1, 9, 10)),
    Attach(7, applied_index=10, applied_term=2, applied_hash=2**64 - 1, epoch=5),
    AttachReply(7, AttachOutcome.PARKED, commit_index=9),
    FeedEntries(7, commit_index=13, entries=ENTRIES),
    FeedAck(7, applied_index=13),
    FeedEntries(8, commit_index=1, entries=()),
    FeedHeartbeat(((7, 13), (8, 1))),
    FeedHeartbeat(()),
    CopyChunk(7, 0, 0, 0, copy_id=6, index=9, index_term=3, number=1, chunks=2, checksum=1, data=b""),
    CopyReply(7, 0, 0, 0, copy_id=6, next_number=2),
)
REQUESTS: Final[dict[str, ClientRequest]] = {
    "write": WriteRequest(1, 7, 5, 9_000, CODEC.encode_batch(BATCH)),
    "read": ReadRequest(2, 7, 5, 9_000, Consistency.STALE, [b"\x00\x01a", b""]),
    "scan": ScanRequest(3, 7, 5, 9_000, Consistency.LINEARIZABLE, b"\x00\x01", b"\x00\x02", 100, keys_only=True),
    "map": MapRequest(4),
    "status": StatusRequest(2**64 - 1),
    "transfer": TransferRequest(5, 7, 9_000, host=3),
    "snapshot": SnapshotRequest(6, 7, 9_000),
    "change_members": ChangeMembersRequest(8, 7, 9_000, add=4, remove=3),
    "place": PlaceRequest(9, 4, "d.example:4004"),
}
REPLIES: Final[dict[str, ClientReply]] = {
    "write": WriteReply(1, BatchResult(40, b"\x01\x04\x06", (39,), (40, 0, 42))),
    "read": ReadReply(2, 13, 250, 2, [b"one", None, b""], (40, 0, 41)),
    "scan": ScanReply(3, 13, None, 0, [b"a", b"b"], [b"1", b""], (40, 41), more=True),
    "map": MapReply(4, SHARD_MAP, (LearnerPlace(9, "127.0.0.1:5009", 1, 2),)),
    "status": StatusReply(
        5,
        host=1,
        version="0.1.0",
        tier=0,
        parent=0,
        uptime_ms=123_456,
        shards=(
            ShardStatus(7, "pre-candidate", 4, 2, 1, 13, 12, 11, 5, 14, 4096, 42, 3),
            ShardStatus(
                8,
                "leader",
                4,
                1,
                1,
                13,
                12,
                11,
                5,
                14,
                4096,
                42,
                3,
                Membership((Member(1, 1), Member(4, 2)), (1,), staging=(4,), leaving=(1,)),
                membership_index=12,
                followers=(FollowerStatus(4, match_index=11, silent_ms=30, copying=True),),
            ),
        ),
        children=(ChildStatus(9, "127.0.0.1:5009", 1, 8, connected=True),),
    ),
    "transfer": TransferReply(7, leader=3, term=9),
    "snapshot": SnapshotReply(8, index=12, first_index=10, log_bytes_before=9000, log_bytes=800, took_us=70),
    "change_members": ChangeMembersReply(
        9, index=12, membership=Membership((Member(1, 1), Member(4, 2)), (1,), staging=(4,), leaving=(1,))
    ),
    "place": PlaceReply(10),
    "error": ErrorReply(6, NotLeader("ask another", leader=2, applied="unknown", shard=7)),
}
ERRORS: Final[tuple[ShardraftError, ...]] = (
    NotLeader("a", leader=3, shard=0),
    WrongShard("b", epoch=4, shard=7),
    Overloaded("c", retry_after_ms=9),
    Conflict("d", found_revision=4),
    TooLarge("e"),
    InvalidArgument("f \N{SNOWMAN}"),
    SessionExpired("g"),
    TooStale("h", age_seconds=0.25),
    TooStale("i"),
    NotYet("j", applied_index=4),
    Compacted("k", first_index=4),
    PermissionDenied("l"),
    Unavailable("m", applied="unknown", shard=4),
    DeadlineExceeded("n", applied="unknown"),
    Unimplemented("o"),
    StaleDisk("p", shard=7),
)
HELLO: Final = Hello(
    role=Role.LEARNER,
    version_min=1,
    version_max=3,
    cluster_id=CLUSTER,
    host=9,
    endpoint="127.0.0.1:5009",
    incarnation=4,
    boot_nonce=2**63,
)
MACHINE_STATE: Final = MachineState(
    shard=7,
    key_range=KeyRange(b"\x02\x00", b"\x03\x00"),
    epoch=5,
    last_applied=13,
    last_applied_term=3,
    applied_hash=2**64 - 1,
    revision=42,
    time_us=1_000_013,
    sessions=(
        SessionRecord(
            SESSION,
            last_used_us=1_000_012,
            answered_below=12,
            results=(
                (12, (), BatchResult(38, b"\x01\x01")),
                (17, (0, 5, 7), BatchResult(40, b"\x01\x04\x02", (39,), (40, 0, 42))),
            ),
        ),
        SessionRecord(CLUSTER, last_used_us=5, answered_below=0, results=()),
    ),
    membership=encode_membership(
        Membership((Member(1, 1), Member(4, 2), Member(5, 3)), (1, 4), staging=(5,), leaving=(4,))
    ),
    last_replica=6,
)


@attrs.frozen(slots=True)
class Format:
    """One kind of message: its encoder, its decoder and a sample."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    sample: Any


FORMATS: Final[dict[str, Format]] = {
    "batch": Format(CODEC.encode_batch, CODEC.decode_batch, BATCH),
    **{f"request_{name}": Format(encode_request, decode_request, request) for name, request in REQUESTS.items()},
    **{
        f"reply_{name}": Format(encode_reply, decode_reply, reply) for name, reply in REPLIES.items() if name != "error"
    },
    "peer_frame": Format(encode_peer_frame, decode_peer_frame, PEER_MESSAGES),
    "peer_frame_orders": Format(encode_peer_frame, decode_peer_frame, ORDERED_MESSAGES),
    "peer_frame_keep": Format(encode_peer_frame, decode_peer_frame, (TimeoutNow(7, 4, 1, 2, keep=True),)),
    "link_frame": Format(encode_link_frame, decode_link_frame, LINK_MESSAGES),
    "hello": Format(encode_hello, decode_hello, HELLO),
    "hello_reply": Format(
        encode_hello_reply,
        decode_hello_reply,
        HelloReply(version=1, cluster_id=CLUSTER, host=1, tier=2, incarnation=5, boot_nonce=6),
    ),
    "hello_reply_refused": Format(
        encode_hello_reply,
        decode_hello_reply,
        HelloReply(version=1, error=HelloRefused(ErrorCode.PERMISSION_DENIED, "of another cluster")),
    ),
    "hard_state": Format(encode_hard_state, decode_hard_state, HardState(4, 2, 13)),
    "machine_state": Format(encode_machine_state, decode_machine_state, MACHINE_STATE),
    "shard_map": Format(encode_shard_map, decode_shard_map, SHARD_MAP),
    "identity": Format(encode_identity, decode_identity, Identity(CLUSTER, 9, 4, 2**63)),
}
"""Everything whose samples compare by value (an ErrorReply holds an exception, which does not)."""
