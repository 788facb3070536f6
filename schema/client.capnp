@0xd91abc5bd32b38eb;
# What a client asks of a host, and what it is answered.
#
# Keys are routing keys (see Partitioning in common.capnp). Deadlines travel as remaining
# milliseconds, never as a time of day. Replies come in any order; `requestId` joins them. The rules
# of evolution in common.capnp hold here too.

using Common = import "common.capnp";

struct Batch {
  # Writes of one session to one shard: one column per property, an operation is a position across
  # them. An encoded Batch (stream framing) is what `Request.write` carries and what lies in the log
  # as it is. Operations apply in order, each sees the earlier ones and has its own outcome; a batch
  # is all or nothing only when `atomic`.

  head @0 :Data;
  # 41 fixed bytes, then one byte per operation. Little-endian and unsigned, because one field costs a
  # reader as much as forty bytes do:
  #
  #     session 16 bytes | sequence u64 | answered_below u64 | epoch u64 | flags u8 | kinds
  #
  # `session` is the exactly-once session, random. `sequence` is the batch's number in it; batches may
  # arrive in any order. The client holds the results of all sequences below `answered_below`; the
  # shard may forget them. `epoch` is the version of the shard map that the client used. Flags: 1 the
  # session is opened (set until one batch of it was acknowledged by this shard), 2 atomic (all
  # operations apply or none), 4 `conditions` is used, 8 `positions` is used; others are 0. Kinds: 1
  # put, 2 delete.
  keys @1 :List(Data);
  # One routing key per operation.
  values @2 :List(Data);
  # One value per operation; empty for a delete.
  conditions @3 :Data;
  # One u64 per operation: the revision that the key must have, 0 for a key that must be absent,
  # 2^64-1 for no condition.
  positions @4 :Data;
  # For a batch regrouped after a change of the map, one u16 per operation, ascending: its position in
  # the batch first sent.
}

enum Consistency {
  # How fresh a read must be.

  linearizable @0;
  # Sees every write acknowledged before the read was sent.
  stale @1;
  # Whatever the replica has applied.
  bounded @2;
  # Reserved: at most a given age.
  atLeast @3;
  # Reserved: not before a given index.
}

struct ReadRequest {
  # The values of some keys, all from one state of the shard.

  consistency @0 :Consistency;
  # How fresh.
  keys @1 :List(Data);
  # Routing keys.
}

struct ScanRequest {
  # Keys of a range in ascending order.

  consistency @0 :Consistency;
  # How fresh.
  start @1 :Data;
  # The first routing key.
  end @2 :Data;
  # The first routing key that is not wanted any more; empty means no end.
  limit @3 :UInt32;
  # Entries wanted at most; the host caps it.
  keysOnly @4 :Bool;
  # Values are not wanted: the reply's values are empty.
}

struct TransferRequest {
  # Let another voter lead the shard. Only its leader can: others answer notLeader. Answered when another
  # leads, or when the one asked for did not take over within an election timeout (conflict).

  host @0 :UInt32;
  # The host whose voter is to lead. The shard's preferred leader does not take it back while that one leads.
}

struct ChangeMembersRequest {
  # Let hosts join or leave the voters of the shard. Only its leader can: others answer notLeader. Answered when
  # the first step is committed; the others follow by themselves, whoever leads, and `status` shows them.
  # What is so already, or on its way, is answered the same and begins nothing.

  add @0 :UInt32;
  # The host that gets a replica, which votes once it has caught up; 0 for none.
  remove @1 :UInt32;
  # The host whose replica leaves; together with `add` only when that one votes. 0 for none.
}

struct PlaceRequest {
  # Know where a host listens, or forget it.

  host @0 :UInt32;
  # Its host id.
  endpoint @1 :Text;
  # "HOST:PORT"; empty to forget a host that holds no replica any more (conflict while it does).
}

struct Request {
  # One request.

  requestId @0 :UInt64;
  # The client's number for it, unique on the connection; the reply echoes it.
  shard @1 :UInt32;
  # The shard that is meant; not used by `map` and `status`.
  epoch @2 :UInt64;
  # The version of the shard map that the client used.
  timeoutMs @3 :UInt32;
  # Milliseconds that the client is still willing to wait.
  union {
    none @4 :Void;
    # No request: refused.
    write @5 :Data;
    # An encoded Batch, stream framing included.
    read @6 :ReadRequest;
    # Read keys.
    scan @7 :ScanRequest;
    # Read a range.
    map @8 :Void;
    # The shard map and the learners.
    status @9 :Void;
    # What the host is doing.
    transfer @10 :TransferRequest;
    # Let another voter lead the shard.
    snapshot @11 :Void;
    # Flush what this host has applied of the shard, and compact its log behind that.
    changeMembers @12 :ChangeMembersRequest;
    # Let hosts join or leave the voters of the shard.
    place @13 :PlaceRequest;
    # Know where a host listens.
  }
}

struct WriteReply {
  # What became of each operation of a batch.

  firstRevision @0 :UInt64;
  # Operation i has revision firstRevision + i, whatever its outcome, unless `revisions` says more.
  outcomes @1 :Data;
  # One byte per operation: 1 written, 2 deleted, 3 missing (a delete of an absent key), 4 conflict,
  # 5 wrong shard, 6 aborted (another operation of the same atomic batch failed).
  foundRevisions @2 :Data;
  # One u64 per conflict, in order: the revision that the key had, 0 when it was absent.
  revisions @3 :Data;
  # Empty, but for a retry of regrouped operations, which first applied at different times: then one
  # u64 per operation, its revision (0: not applied), and firstRevision is the first of them.
}

struct ReadReply {
  # Values, in the order of the keys asked for; possibly of the first ones only.

  appliedIndex @0 :UInt64;
  # The index that the replica had applied.
  ageUs @1 :UInt64 = 0xffffffffffffffff;
  # An upper bound of the answer's age in microseconds; 2^64-1 when unproved.
  tier @2 :UInt16;
  # The replica's place in the read tree; 0 is a voter.
  values @3 :List(Data);
  # One value per key answered; empty for an absent key.
  revisions @4 :Data;
  # One u64 per key answered: its revision; 0 means that the key is absent.
}

struct ScanReply {
  # One page of a scan.

  appliedIndex @0 :UInt64;
  # The index that the replica had applied.
  ageUs @1 :UInt64 = 0xffffffffffffffff;
  # An upper bound of the answer's age in microseconds; 2^64-1 when unproved.
  tier @2 :UInt16;
  # The replica's place in the read tree; 0 is a voter.
  keys @3 :List(Data);
  # Routing keys, ascending.
  values @4 :List(Data);
  # One value per key; all empty when only keys were wanted.
  revisions @5 :Data;
  # One u64 per key: its revision.
  more @6 :Bool;
  # The page ended before the range did; go on after the last key.
}

struct LearnerPlace {
  # A learner as its ancestors know it.

  host @0 :UInt32;
  # Its host id.
  endpoint @1 :Text;
  # "HOST:PORT".
  tier @2 :UInt16;
  # Its place in the read tree, 1 or more.
  parent @3 :UInt32;
  # The host or learner that feeds it.
}

struct MapReply {
  # Who owns which keys, and who else can be read from.

  shardMap @0 :Common.ShardMap;
  # The map.
  learners @1 :List(LearnerPlace);
  # The learners below this host.
}

struct FollowerStatus {
  # A replica of the shard as its leader sees it.

  replica @0 :UInt32;
  # Its replica number.
  matchIndex @1 :UInt64;
  # The last index known to be durable there.
  silentMs @2 :UInt64;
  # Milliseconds since it was last heard.
  copying @3 :Bool;
  # Whether it gets a full copy of the state.
}

struct ShardStatus {
  # One shard on one host.

  shard @0 :UInt32;
  # The shard.
  role @1 :Text;
  # "follower", "pre-candidate", "candidate", "leader" or "learner".
  term @2 :UInt64;
  # Raft's current term.
  leader @3 :UInt32;
  # The leader's host id; 0 when none is known.
  replica @4 :UInt32;
  # This host's replica number; 0 on a learner.
  commitIndex @5 :UInt64;
  # The highest index known to be committed.
  appliedIndex @6 :UInt64;
  # The highest index applied.
  flushedIndex @7 :UInt64;
  # The highest index whose effect is in the state on disk.
  firstIndex @8 :UInt64;
  # The first index in the log.
  lastIndex @9 :UInt64;
  # The last one.
  logBytes @10 :UInt64;
  # The size of the log.
  revision @11 :UInt64;
  # The count of applied operations.
  sessions @12 :UInt32;
  # How many exactly-once sessions are open.
  membership @13 :Common.Membership;
  # The configuration in effect here; without members when it is not known, as on a learner.
  membershipIndex @14 :UInt64;
  # The index of the entry that brought it, or of where it is known from.
  followers @15 :List(FollowerStatus);
  # The other replicas, ascending by number, staging ones among them; only the leader knows them.
}

struct ChildStatus {
  # A child of the read tree as its parent sees it.

  host @0 :UInt32;
  # Its host id.
  endpoint @1 :Text;
  # "HOST:PORT".
  tier @2 :UInt16;
  # Its place in the read tree.
  lagEntries @3 :UInt64;
  # Committed and not acknowledged entries, summed over shards.
  connected @4 :Bool;
  # Whether its link is up.
}

struct StatusReply {
  # What a host is doing.

  host @0 :UInt32;
  # Its host id.
  version @1 :Text;
  # The program's version.
  tier @2 :UInt16;
  # Its place in the read tree; 0 is a voter host.
  parent @3 :UInt32;
  # Who feeds it; 0 on a voter host.
  uptimeMs @4 :UInt64;
  # Milliseconds since it started.
  shards @5 :List(ShardStatus);
  # Its shards.
  children @6 :List(ChildStatus);
  # The learners that it feeds.
}

struct TransferReply {
  # Another leads, or the host asked for already did.

  leader @0 :UInt32;
  # The leader's host id. Another than was asked for may have been faster.
  term @1 :UInt64;
  # Its term.
}

struct SnapshotReply {
  # The state of a shard is flushed, and its log compacted.

  index @0 :UInt64;
  # The state on disk is that at this index, or a later one.
  firstIndex @1 :UInt64;
  # The first index that is kept in the log: what a live follower has not yet got stays.
  logBytesBefore @2 :UInt64;
  # The size of the log when the request came.
  logBytes @3 :UInt64;
  # Its size now.
  tookUs @4 :UInt64;
  # Microseconds that it took.
}

struct ChangeMembersReply {
  # The change is under way, or done.

  index @0 :UInt64;
  # The index of the entry that brought `membership`.
  membership @1 :Common.Membership;
  # The configuration in effect at the leader; a later step may have brought it already.
}

struct ErrorReply {
  # A refusal. Fields that the code does not speak of are 0.

  code @0 :Common.ErrorCode;
  # What it is called.
  text @1 :Text;
  # The same in a sentence.
  outcomeUnknown @2 :Bool;
  # False: certainly not applied. True: it may have been applied.
  hasShard @3 :Bool;
  # Whether `shard` says anything.
  shard @4 :UInt32;
  # The shard that answered.
  leader @5 :UInt32;
  # notLeader: the leader's host id as far as known; 0 for none.
  epoch @6 :UInt64;
  # wrongShard: the version of the host's map.
  retryAfterMs @7 :UInt32;
  # overloaded: when to try again.
  foundRevision @8 :UInt64;
  # conflict: the revision that the key has; 0 when it is absent.
  ageUs @9 :UInt64 = 0xffffffffffffffff;
  # tooStale: the age that the replica can prove, microseconds; 2^64-1 for none.
  appliedIndex @10 :UInt64;
  # notYet: where the replica is.
  firstIndex @11 :UInt64;
  # compacted: the first index that is kept.
}

struct Reply {
  # One reply.

  requestId @0 :UInt64;
  # The request that it answers; 0 for an error of the connection itself, which is then closed.
  union {
    none @1 :Void;
    # No reply: refused.
    write @2 :WriteReply;
    # To a write.
    read @3 :ReadReply;
    # To a read.
    scan @4 :ScanReply;
    # To a scan.
    map @5 :MapReply;
    # To a map request.
    status @6 :StatusReply;
    # To a status request.
    error @7 :ErrorReply;
    # To any request.
    transfer @8 :TransferReply;
    # To a transfer.
    snapshot @9 :SnapshotReply;
    # To a snapshot.
    changeMembers @10 :ChangeMembersReply;
    # To a change of members.
    place @11 :Void;
    # To a place: it is kept.
  }
}
