@0xb4bdde183e588da7;
# What several of shardraft's files share: the hello that opens every connection, the error codes,
# and the shard map.
#
# The protocol in one paragraph. Everything travels as Cap'n Proto messages in the standard stream
# framing (segment table, then segments), unpacked; packed messages are never accepted. The first
# message on a connection is a `Hello` from the side that connected, answered by one `HelloReply`;
# the side that connected sends nothing else before it has that answer. After it, a client sends
# `Request`s and gets `Reply`s (client.capnp); voter hosts exchange `PeerFrame`s, a parent and a
# child of the read tree `LinkFrame`s (peer.capnp).
#
# Rules of evolution, for all files of this directory:
#   1. File ids, field numbers, enumerants and error codes are never changed and never reused.
#   2. A field that is no longer used stays, with a comment that says so.
#   3. A new field's default must mean "as before"; what an old reader must not overlook is a new
#      member of a union, or a higher version in the hello, never a new field.
#   4. An unknown member of a union, enumerant or kind is refused by name, never skipped.
#   5. Fixed-width records inside `Data` columns never change their width; a change is a new column.
#   6. All numbers inside `Data` columns are little-endian and unsigned, without padding between
#      records.

const magic :UInt64 = 0x7466617264726873;
# "shrdraft" in the bytes of the stream. A `Hello` or `HelloReply` without it is none of this protocol.

const protocolVersion :UInt16 = 1;
# The version that these files describe.

enum Role {
  # What the sender of a Hello wants to be on this connection.

  client @0;
  # Sends requests.
  peer @1;
  # A voter host; exchanges PeerFrames.
  learner @2;
  # A child of the read tree; exchanges LinkFrames with the receiver, its parent.
}

struct Hello {
  # The first message of a connection, from the side that connected.

  magic @0 :UInt64;
  # The constant `magic`.
  role @1 :Role;
  # What the connection is for.
  versionMin @2 :UInt16;
  # The lowest protocol version that the sender speaks.
  versionMax @3 :UInt16;
  # The highest. Both sides use the highest that both speak.
  clusterId @4 :Data;
  # The cluster that the sender belongs to or looks for, 16 bytes; empty when it does not know yet.
  # A hello of another cluster is refused.
  host @5 :UInt32;
  # The sender's host id; 0 for clients.
  endpoint @6 :Text;
  # Where the sender listens, "HOST:PORT"; empty for clients.
  incarnation @7 :UInt64;
  # How often the sender's data directory was started; 0 for clients.
  bootNonce @8 :UInt64;
  # A random number of that start; 0 for clients. A host that shows a lower incarnation than it once
  # did, or the same with another nonce, runs from a copy of its disk and is refused.
}

struct HelloReply {
  # The answer to a Hello. With an `error` the connection is closed after it.

  version @0 :UInt16;
  # The protocol version to use.
  clusterId @1 :Data;
  # The receiver's cluster.
  host @2 :UInt32;
  # The receiver's host id.
  tier @3 :UInt16;
  # The receiver's place in the read tree; 0 is a voter host.
  error @4 :ErrorCode;
  # Why the hello was refused; `none` when it was not.
  text @5 :Text;
  # The same in a sentence.
  incarnation @6 :UInt64;
  # How often the receiver's data directory was started: both sides judge each other (see Hello.bootNonce).
  bootNonce @7 :UInt64;
  # A random number of that start.
  magic @8 :UInt64;
  # The constant `magic`: an answer without it comes from something else.
}

enum ErrorCode {
  # What a refusal is called.

  none @0;
  # No refusal.
  notLeader @1;
  # This host does not lead the shard.
  wrongShard @2;
  # The shard does not hold the key, or the client's map is stale.
  overloaded @3;
  # A limit was reached; nothing was done.
  conflict @4;
  # A condition did not hold.
  tooLarge @5;
  # A key, value, batch or frame is above its limit.
  invalidArgument @6;
  # The message makes no sense.
  sessionExpired @7;
  # The exactly-once session is gone.
  tooStale @8;
  # The replica cannot prove the age that was asked for.
  notYet @9;
  # The replica has not applied what was asked for.
  compacted @10;
  # The entries asked for are gone.
  permissionDenied @11;
  # The sender may not do this.
  unavailable @12;
  # No host that could answer was reached.
  deadlineExceeded @13;
  # The deadline passed first.
  unimplemented @14;
  # The receiver does not know the request or none of the versions offered.
  staleDisk @15;
  # The sender's disk was wiped or is an old copy: it was met in a later start before.
}

enum Partitioning {
  # How user keys become routing keys; fixed for the life of a cluster.

  unset @0;
  # No partitioning: such a map is refused.
  hash @1;
  # A two-byte slot (big-endian), then the user's key.
  range @2;
  # The user's key itself.
}

struct Member {
  # One voter of a shard.

  replica @0 :UInt32;
  # Its replica number, unique within the shard for ever.
  host @1 :UInt32;
  # The host that holds it.
}

struct Membership {
  # A shard's Raft configuration; joint (two majorities needed) while `votersOutgoing` is not empty.

  members @0 :List(Member);
  # Every replica of the configuration with its host, ascending by replica.
  voters @1 :List(UInt32);
  # The voting replicas, ascending.
  votersOutgoing @2 :List(UInt32);
  # The voters of the configuration being left, ascending.
  staging @3 :List(UInt32);
  # Voters-to-be that are still catching up, ascending.
  leaving @4 :List(UInt32);
  # The voters that go when those in `staging` become voters, ascending.
}

struct Shard {
  # One shard.

  shard @0 :UInt32;
  # Its number; 0 is reserved.
  start @1 :Data;
  # The first routing key that it holds.
  end @2 :Data;
  # The first one that it does not hold any more; empty means no end.
  membership @3 :Membership;
  # Who replicates it, as far as the sender knows.
  membershipIndex @4 :UInt64;
  # The index of the entry that brought `membership`, 0 for the first one: of two that are told, the higher is the
  # later. It changes within one epoch, and so do `hosts`.
}

struct HostPlace {
  # Where a voter host listens.

  host @0 :UInt32;
  # Its host id.
  endpoint @1 :Text;
  # "HOST:PORT".
}

struct ShardMap {
  # Who owns which keys.

  clusterId @0 :Data;
  # The cluster whose map this is, 16 bytes.
  epoch @1 :UInt64;
  # The map's version; grows with each change.
  partitioning @2 :Partitioning;
  # How user keys become routing keys.
  slots @3 :UInt32;
  # The number of hash slots.
  hosts @4 :List(HostPlace);
  # All voter hosts.
  shards @5 :List(Shard);
  # All shards, ascending by range, without gap or overlap.
}
