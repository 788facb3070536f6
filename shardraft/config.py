"""Every limit and timeout, with its unit in its name and its default (PROTOCOL, "Defaults").

What happens at a limit is said beside it. Values are validated once, here.
"""

from __future__ import annotations

import attrs
from attrs.validators import ge, gt, instance_of


def _positive(default: int) -> int:
    field: int = attrs.field(default=default, validator=[instance_of(int), gt(0)])
    return field


def _natural(default: int) -> int:
    field: int = attrs.field(default=default, validator=[instance_of(int), ge(0)])
    return field


@attrs.frozen(slots=True, kw_only=True)
class RaftConfig:
    """Timing and flow control of one Raft group.

    The election timeout is drawn anew from [``election_timeout_ms``, 2 x ``election_timeout_ms``);
    "one election timeout" in any stated bound means the upper end.
    """

    heartbeat_ms: int = _positive(50)
    election_timeout_ms: int = _positive(500)
    commit_push_ms: int = _natural(5)
    """A commit index that no entries carry to a follower within this is sent to it alone."""
    pre_vote_hint_ms_max: int = _natural(30)
    """A closed connection to the leader starts a pre-vote after a random wait of at most this."""
    append_entries_max: int = _positive(1024)
    """Entries in one AppendEntries; more wait for the next."""
    append_bytes_max: int = _positive(2 << 20)
    """Entry bytes in one AppendEntries (a single larger entry still goes alone)."""
    in_flight_messages_max: int = _positive(256)
    """AppendEntries sent and not answered, per follower; at the limit replication to it pauses."""
    in_flight_bytes_max: int = _positive(16 << 20)
    """The same, in entry bytes."""
    uncommitted_bytes_max: int = _positive(64 << 20)
    """Entry bytes a leader holds uncommitted; above it proposals are refused as Overloaded."""
    log_cache_bytes_max: int = _positive(8 << 20)
    """Recent entries kept in memory per group; older ones are read from the store."""
    read_indexes_max: int = _positive(65_536)
    """Read index requests waiting for a round; above it reads are refused as Overloaded."""
    members_max: int = _positive(32)
    """Replicas in one group's configuration; a change that needs more is refused as InvalidArgument."""
    preferred_after_ms: int = _positive(5_000)
    """A preferred replica is given the leadership once it has followed without a gap for this long."""
    lease_ms: int = _natural(0)
    """How long a leader may answer reads from a round that a quorum acknowledged; 0: no leases, every read
    waits for a round. All replicas of a group must be given the same value."""
    rho_ppm: int = _natural(1_000)
    """How far a clock's rate may be off, in parts per million; the one assumption that leases rest on."""

    def __attrs_post_init__(self) -> None:
        if self.heartbeat_ms * 3 > self.election_timeout_ms:
            raise ValueError("election_timeout_ms must be at least three times heartbeat_ms")
        if self.lease_ms and not self.heartbeat_ms < self.lease_ms <= self.election_timeout_ms:
            raise ValueError("lease_ms must be above heartbeat_ms, and election_timeout_ms at most")
        if self.rho_ppm >= 1_000_000:
            raise ValueError("rho_ppm must be below one million")


@attrs.frozen(slots=True, kw_only=True)
class Limits:
    """What a host accepts and keeps."""

    key_bytes_max: int = _positive(480)
    """The user's key; longer is InvalidArgument. A routing key may be two bytes longer (its slot)."""
    value_bytes_max: int = _positive(1 << 20)
    """Larger is TooLarge, before anything is proposed."""
    batch_operations_max: int = _positive(4096)
    batch_bytes_max: int = _positive(4 << 20)
    """Keys and values of one batch; more is TooLarge (the router never coalesces past it)."""
    frame_bytes_max: int = _positive(16 << 20)
    """One message on a connection, checked from the segment table before anything is allocated."""
    read_keys_max: int = _positive(4096)
    """Keys in one read request; more is TooLarge."""
    scan_entries_max: int = _positive(4096)
    """Entries in one page of a scan; a larger limit is capped and ``more`` is set."""
    page_bytes_max: int = _positive(4 << 20)
    """Keys and values in one page of a scan or one read reply; a page ends early and ``more`` is set."""
    deadline_ms_max: int = _positive(60_000)
    """A longer deadline is capped to this."""
    turn_events_max: int = _positive(1024)
    """Events stepped in one turn; the rest wait in the inbox."""
    turn_read_bytes_max: int = _positive(8 << 20)
    """Keys and values in the answers to reads that one turn gives; the other reads wait for the next turn."""
    turns_in_flight_max: int = _positive(4)
    """Turns whose log commit is not finished; at the limit a turn writes nothing more (DESIGN 2)."""
    hash_check_entries: int = _positive(256)
    """Replicas compare their rolling hashes at every so many entries; where two are given different numbers,
    they compare at common multiples only."""
    apply_entries_max: int = _positive(256)
    """Committed entries applied per shard in one turn; the rest follow in the next."""
    inbox_events_max: int = _positive(65_536)
    """Events waiting for the loop; above it client connections are no longer read."""
    requests_in_flight_max: int = _positive(65_536)
    """Client requests a host holds unanswered; above it a request is refused as Overloaded."""
    connections_max: int = _positive(4096)
    """Open inbound connections; one more is closed with Overloaded."""
    outbox_bytes_max: int = _positive(64 << 20)
    """Bytes waiting for one connection; a peer's frames are then dropped (Raft sends again), a client is closed."""
    session_timeout_ms: int = _positive(3_600_000)
    """An idle session is expired by an entry that the leader proposes."""
    sessions_max: int = _positive(10_000)
    """Sessions per shard. A batch that opens one more ends the one used longest ago, if that has been idle for
    ``session_idle_ms_min``; else it is refused as Overloaded."""
    session_idle_ms_min: int = _positive(300_000)
    """How long a session is kept whatever comes: longer than any client sends the same batch again."""
    session_window_max: int = _positive(1024)
    """Results kept per session; a sequence this far above ``answered_below`` is refused as Overloaded."""
    log_bytes_max: int = _positive(64 << 20)
    """Log kept per shard before it is compacted (never past the flushed ``last_applied``)."""
    log_held_bytes_max: int = _positive(1 << 30)
    """Log kept per shard where it is held for a follower that was heard lately; above it the log is cut, and the
    follower may need a copy. While one is on its way, and its receiver catches up, ``host_log_bytes_max`` counts."""
    log_hold_ms_max: int = _positive(30_000)
    """A follower that was not heard for this long has no log held for it any more."""
    host_log_bytes_max: int = _positive(4 << 30)
    """Log kept by all shards of a host together; above it the largest logs may hold less, held or not."""
    write_buffer_bytes_max: int = _positive(48 << 20)
    """Applied state waiting in memory, per host; at it a flush begins, at twice it applying waits for the flush."""
    flush_age_ms_max: int = _positive(30_000)
    """Applied state is flushed at the latest after this."""
    copy_chunk_bytes: int = _positive(256 << 10)
    """The size of one chunk of a snapshot."""
    copy_chunks_in_flight_max: int = _positive(4)
    copies_max: int = _positive(2)
    """Snapshots that a host sends at once; further ones wait."""
    copy_bytes_per_second_max: int = _natural(64 << 20)
    """What a host sends of all snapshots together; above it chunks wait, and nothing else does. 0: no limit."""
    copy_retry_ms: int = _positive(1_000)
    """A chunk that was not answered for this long is sent again."""
    copy_silence_ms_max: int = _positive(10_000)
    """A receiver of a snapshot that answers nothing for this long is given up; its place goes to the next."""
    copy_order_ms_max: int = _positive(5_000)
    """A replica that its leader ordered to send a snapshot, and that says nothing of it or has not flushed what it
    needs for it for this long, is relieved: the leader sends one itself."""
    copy_keep_ms: int = _positive(10_000)
    """A spooled snapshot that nobody receives is kept this long, for a broken link to resume."""
    hosts_max: int = _positive(256)
    """Voter hosts in the map; one more is refused, its hello and an operator's word for it alike."""
    children_max: int = _positive(32)
    """Learners that one host feeds; one more is refused as Overloaded."""
    descendants_max: int = _positive(4096)
    """Learners below a host that it lists in its hello and its status; further ones are fed and not listed."""
    feed_bytes_in_flight_max: int = _positive(4 << 20)
    """Entry bytes sent to one child for one shard and not acknowledged; at it the feed pauses."""
    feed_link_bytes_in_flight_max: int = _positive(32 << 20)
    """The same for one child and all shards; below ``outbox_bytes_max``, at which the link would be closed."""
    feed_message_bytes_max: int = _positive(1 << 20)
    """Entry bytes in one FeedEntries (a single larger entry still goes alone)."""
    feed_turn_bytes_max: int = _positive(16 << 20)
    """Entry bytes given to all children in one turn; the rest follow in the next."""
    silence_ms_max: int = _positive(1_000)
    """A learner whose parent says nothing for this long drops the link and attaches anew."""
    parent_lacks_ms_max: int = _positive(1_500)
    """A parent without a replica of a shard is kept this long, and until a copy that it sends is done; then the
    learner turns to the next."""
    parent_search_ms_max: int = _positive(10_000)
    """A learner whose given parents were tried in vain for this long asks the voter hosts that it was told of, too."""

    def __attrs_post_init__(self) -> None:
        if self.session_idle_ms_min <= self.deadline_ms_max:
            raise ValueError("session_idle_ms_min must be above deadline_ms_max: until then a batch may be sent again")


@attrs.frozen(slots=True, kw_only=True)
class TransportConfig:
    """Timing of connections; times are of the driver's clock and no promise rests on them."""

    connect_timeout_ms: int = _positive(2_000)
    """An attempt to connect that takes longer is given up."""
    handshake_timeout_ms: int = _positive(5_000)
    """A connection whose hello (or its answer) did not arrive by then is closed."""
    frame_timeout_ms: int = _positive(30_000)
    """A connection whose frame began this long ago and is not complete is closed."""
    linger_ms: int = _positive(1_000)
    """What is queued when a connection is closed may take this long to leave; then it is dropped."""
    unacknowledged_ms_max: int = _positive(10_000)
    """Sent bytes that the other machine's kernel did not acknowledge for this long end the connection."""
    reconnect_ms_min: int = _positive(50)
    reconnect_ms_max: int = _positive(1_000)
    """The wait before connecting again doubles from the one to the other, jittered by half."""
    refusals_max: int = _positive(64)
    """Connections above ``connections_max`` that are told so at once; further ones are closed without a word."""


@attrs.frozen(slots=True, kw_only=True)
class HostConfig:
    """All that the pure host is given besides its identity."""

    raft: RaftConfig = attrs.field(factory=RaftConfig)
    limits: Limits = attrs.field(factory=Limits)
    transport: TransportConfig = attrs.field(factory=TransportConfig)
