"""Any value of each message, as decoders return it: keys and values in lists, numbers in tuples."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

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
from shardraft.kv.commands import DELETE, PUT, Batch, BatchResult
from shardraft.kv.machine import MachineState, SessionRecord
from shardraft.kv.requests import (
    ChangeMembersReply,
    ChangeMembersRequest,
    ChildStatus,
    Consistency,
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
from shardraft.raft.entry import Entry, EntryKind, encode_entry
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
from shardraft.shards.keyspace import KeyRange
from shardraft.shards.shard_map import HostPlace, Partitioning, ShardMap
from shardraft.types import TERM_MAX, Member, Membership
from shardraft.wire.hello import Hello, Role

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
ages = st.none() | st.integers(0, 2**64 - 2)
texts = st.text(max_size=20)
data = st.binary(max_size=40)
sessions = st.binary(min_size=16, max_size=16)


def tuples_of(items: st.SearchStrategy[Any], size_max: int = 5) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=size_max).map(tuple)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    kinds = draw(st.lists(st.sampled_from((PUT, DELETE)), min_size=1, max_size=20))
    count = len(kinds)
    positions = draw(st.just(()) | st.sets(u16, min_size=count, max_size=count).map(lambda them: tuple(sorted(them))))
    return Batch(
        session=draw(sessions),
        sequence=draw(u64),
        answered_below=draw(u64),
        opens_session=draw(st.booleans()),
        atomic=draw(st.booleans()),
        epoch=draw(u64),
        kinds=bytes(kinds),
        keys=[draw(data) for _ in kinds],
        values=[draw(data) if kind == PUT else b"" for kind in kinds],
        conditions=draw(st.just(()) | st.lists(u64, min_size=count, max_size=count).map(tuple)),
        positions=positions,
    )


@st.composite
def batch_results(draw: st.DrawFn) -> BatchResult:
    outcomes = draw(st.binary(max_size=12))
    count = len(outcomes)
    return BatchResult(
        draw(u64),
        outcomes,
        draw(tuples_of(u64, count)),
        draw(st.just(()) | st.lists(u64, min_size=count, max_size=count).map(tuple)),
    )


consistencies = st.sampled_from(Consistency)
read_requests = st.builds(ReadRequest, u64, u32, u64, u32, consistencies, st.lists(data, max_size=20))
write_requests = st.builds(WriteRequest, u64, u32, u64, u32, data)
requests = st.one_of(
    write_requests,
    read_requests,
    st.builds(ScanRequest, u64, u32, u64, u32, consistencies, data, data, u32, st.booleans()),
    st.builds(MapRequest, u64),
    st.builds(StatusRequest, u64),
    st.builds(TransferRequest, u64, u32, u32, u32),
    st.builds(SnapshotRequest, u64, u32, u32),
    st.builds(ChangeMembersRequest, u64, u32, u32, u32, u32),
    st.builds(PlaceRequest, u64, u32, texts),
)
shard_maps = st.builds(
    ShardMap.bootstrap,
    sessions,
    st.lists(st.tuples(st.integers(1, 2**32 - 1), texts), min_size=1, max_size=5, unique_by=lambda place: place[0]).map(
        lambda places: tuple(HostPlace(host, endpoint) for host, endpoint in places)
    ),
    st.integers(1, 9),
    st.sampled_from(Partitioning),
)


@st.composite
def read_replies(draw: st.DrawFn) -> ReadReply:
    revisions = draw(tuples_of(st.just(0) | u64))
    values = [draw(data) if revision else None for revision in revisions]
    return ReadReply(draw(u64), draw(u64), draw(ages), draw(u16), values, revisions)


@st.composite
def scan_replies(draw: st.DrawFn) -> ScanReply:
    rows = draw(st.lists(st.tuples(data, data, u64), max_size=8))
    return ScanReply(
        draw(u64),
        draw(u64),
        draw(ages),
        draw(u16),
        [row[0] for row in rows],
        [row[1] for row in rows],
        tuple(row[2] for row in rows),
        draw(st.booleans()),
    )


numbers = st.sets(u32, max_size=4).map(lambda them: tuple(sorted(them)))
memberships = st.builds(
    Membership, tuples_of(st.builds(Member, u32, u32)), numbers, numbers, staging=numbers, leaving=numbers
)
followers = tuples_of(st.builds(FollowerStatus, u32, u64, u64, st.booleans()))
shard_statuses = st.builds(
    ShardStatus, u32, texts, u64, u32, u32, u64, u64, u64, u64, u64, u64, u64, u32, memberships, u64, followers
)
child_statuses = st.builds(ChildStatus, u32, texts, u16, u64, st.booleans())
write_replies = st.builds(WriteReply, u64, batch_results())
replies = st.one_of(
    write_replies,
    read_replies(),
    scan_replies(),
    st.builds(MapReply, u64, shard_maps, tuples_of(st.builds(LearnerPlace, u32, texts, u16, u32))),
    st.builds(StatusReply, u64, u32, texts, u16, u32, u64, tuples_of(shard_statuses, 3), tuples_of(child_statuses, 3)),
    st.builds(TransferReply, u64, u32, u64),
    st.builds(SnapshotReply, u64, u64, u64, u64, u64, u64),
    st.builds(ChangeMembersReply, u64, u64, memberships),
    st.builds(PlaceReply, u64),
)


def entries_of(shard: int) -> st.SearchStrategy[tuple[Entry, ...]]:
    numbers = st.integers(1, TERM_MAX)
    entry = st.builds(encode_entry, st.just(shard), numbers, numbers, st.sampled_from(EntryKind), u64, data)
    return tuples_of(entry, 4)


@st.composite
def appends(draw: st.DrawFn) -> AppendEntries:
    shard = draw(u32)
    return AppendEntries(
        shard, draw(u64), draw(u32), draw(u32), draw(u64), draw(u64), draw(u64), draw(entries_of(shard))
    )


@st.composite
def feeds(draw: st.DrawFn) -> FeedEntries:
    shard = draw(u32)
    return FeedEntries(shard, draw(u64), draw(entries_of(shard)))


_between = (u32, u64, u32, u32)
_copies = (
    st.builds(CopyChunk, *_between, u64, u64, u64, u32, u32, u32, data),
    st.builds(CopyReply, *_between, u64, u64, st.booleans()),
)
peer_messages = tuples_of(
    st.one_of(
        st.builds(RequestPreVote, *_between, u64, u64, st.booleans()),
        st.builds(RequestPreVoteReply, *_between, st.booleans()),
        st.builds(RequestVote, *_between, u64, u64, st.booleans()),
        st.builds(RequestVoteReply, *_between, st.booleans()),
        appends(),
        st.builds(AppendEntriesReply, *_between, st.booleans(), u64, u64, u64),
        st.builds(CommitAdvance, *_between, u64),
        st.builds(Heartbeat, *_between, u64, u64),
        st.builds(HeartbeatReply, *_between, u64),
        st.builds(TimeoutNow, *_between, st.booleans()),
        st.builds(HashCheck, *_between, u64, u64),
        st.builds(RemovalNotice, *_between),
        st.builds(CopyOrder, *_between, u64, u64, u32, u32),
        st.builds(CopyOrderReply, *_between, u64, u64, st.sampled_from(CopyOrderOutcome)),
        st.builds(OrderedChunk, *_between, u64, u64, u64, u32, u32, u32, data, u64),
        st.builds(Round, u64, u64, u64, tuples_of(st.builds(Place, *_between)), tuples_of(u32)),
        st.builds(RoundReply, u64, u64, tuples_of(u32)),
        *_copies,
    ),
    12,
).filter(bool)
link_messages = tuples_of(
    st.one_of(
        st.builds(ChildHello, u32, texts, tuples_of(st.builds(DescendantPlace, u32, texts, u16, u32))),
        st.builds(ParentHello, u32, u16, tuples_of(u32), st.none() | shard_maps),
        st.builds(Attach, u32, u64, u64, u64, u64),
        st.builds(AttachReply, u32, st.sampled_from(AttachOutcome), u64),
        feeds(),
        st.builds(FeedAck, u32, u64),
        st.builds(FeedHeartbeat, tuples_of(st.tuples(u32, u64))),
        *_copies,
    ),
    12,
).filter(bool)

hellos = st.builds(
    Hello,
    role=st.sampled_from(Role),
    version_min=u16,
    version_max=u16,
    cluster_id=data,
    host=u32,
    endpoint=texts,
    incarnation=u64,
    boot_nonce=u64,
)
session_records = st.builds(
    SessionRecord, sessions, u64, u64, tuples_of(st.tuples(u64, tuples_of(u16), batch_results()), 4)
)
encoded_memberships = st.sampled_from((b"", encode_membership(Membership.of({1: 2, 7: 1}))))
machine_states = st.builds(
    MachineState,
    u32,
    st.builds(KeyRange, data, data),
    u64,
    u64,
    u64,
    u64,
    u64,
    u64,
    tuples_of(session_records, 4),
    encoded_memberships,
    u32,
)
