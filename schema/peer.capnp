@0xacd19e897d3cd5da;
# What travels between voter hosts (PeerFrame), and between a parent and a child of the read tree
# (LinkFrame).
#
# A frame carries messages of many shards at once. Each kind of message has a column of fixed-width
# records, so that a frame of 64 shards costs little more than one of a single shard. `kinds` names
# the messages in their order, one byte each; the n-th byte of a kind stands for the n-th record of
# that kind's column. Columns of kinds that do not occur are empty. Kinds, never reused:
#
#     1 requestPreVote      2 requestPreVoteReply   3 requestVote     4 requestVoteReply
#     5 appendEntries       6 appendEntriesReply    7 heartbeat       8 heartbeatReply
#     9 timeoutNow         10 copyChunk            11 copyReply       12 round
#    13 roundReply         14 commitAdvance        15 hashCheck       16 removalNotice
#    17 copyOrder          18 copyOrderReply       19 orderedChunk
#    20 childHello         21 parentHello          22 attach         23 attachReply
#    24 feedEntries        25 feedAck              26 feedHeartbeat
#
# Records are little-endian and unsigned. Those of kinds 1 to 19 begin with the same 24 bytes:
#
#     shard u32 | from_replica u32 | to_replica u32 | word u32 | term u64
#
# where `term` is the sender's and `word` is said with each column. Where a word is a flag, bit 0 is
# the flag and the others are 0.
#
# An entry is an item of `entries`, exactly as it lies in every log, little-endian:
#
#     checksum u32 | format u8 | kind u8 | reserved u16 | shard u32 | payload_bytes u32
#     | index u64 | term u64 | time_us u64 | payload
#
# The checksum is CRC-32 over everything after itself. Entry kinds: 1 no-op, 2 batch (the payload is
# an encoded Batch of client.capnp), 3 membership, 4 expiry.
#
# The rules of evolution in common.capnp hold here too.

using Common = import "common.capnp";

struct PeerFrame {
  # Messages from one voter host to another.

  kinds @0 :Data;
  # One byte per message, in order.
  requestPreVotes @1 :Data;
  # 40 bytes each: the 24, then last_log_index u64 | last_log_term u64. `word` is a flag: the sender
  # asks early because its connection to the leader closed. `term` is the one asked about.
  requestPreVoteReplies @2 :Data;
  # 24 bytes each. `word` is a flag: granted.
  requestVotes @3 :Data;
  # 40 bytes each: the 24, then last_log_index u64 | last_log_term u64. `word` is a flag: the old
  # leader asked for this election.
  requestVoteReplies @4 :Data;
  # 24 bytes each. `word` is a flag: granted.
  appendEntries @5 :Data;
  # 48 bytes each: the 24, then prev_log_index u64 | prev_log_term u64 | leader_commit u64. `word` is
  # the number of its entries, which are the next ones of `entries`.
  appendEntriesReplies @6 :Data;
  # 48 bytes each: the 24, then match_index u64 | conflict_index u64 | conflict_term u64. `word` is a
  # flag: success.
  heartbeats @7 :Data;
  # 40 bytes each: the 24, then commit_index u64 | round u64. `word` is 0.
  heartbeatReplies @8 :Data;
  # 32 bytes each: the 24, then round u64. `word` is 0.
  timeoutNows @9 :Data;
  # 24 bytes each. `word` is a flag: an operator asked for it, so the new leader does not hand the office on
  # to the preferred one.
  copyChunks @10 :Data;
  # 56 bytes each: the 24, then copy_id u64 | index u64 | index_term u64 | number u32 | chunks u32.
  # `word` is the CRC-32 of its data, which is the next item of `chunks`.
  copyReplies @11 :Data;
  # 40 bytes each: the 24, then copy_id u64 | next_number u64. `word` is a flag: refused.
  entries @12 :List(Data);
  # The entries of all appendEntries, concatenated in order.
  chunks @13 :List(Data);
  # The data of all copyChunks, in order.
  rounds @14 :Data;
  # 24 bytes each: number u64 | version u64 | since u64. Its changes are the next two items of
  # `roundLists`.
  roundReplies @15 :Data;
  # 16 bytes each: number u64 | version u64. Its exceptions are the next item of `excepted`.
  roundLists @16 :List(Data);
  # Two items per round. Its places, 24 bytes each: shard u32 | from_replica u32 | to_replica u32
  # | reserved u32 | term u64. And the shards that left the list, 4 bytes each.
  excepted @17 :List(Data);
  # One item per roundReply: the shards that it excepts, 4 bytes each.
  hashChecks @18 :Data;
  # 40 bytes each: the 24, then index u64 | applied_hash u64. `word` is 0.
  commitAdvances @19 :Data;
  # 32 bytes each: the 24, then commit_index u64. `word` is 0.
  removalNotices @20 :Data;
  # 24 bytes each: the receiver has left the group for good. `word` is 0.
  copyOrders @21 :Data;
  # 48 bytes each: the 24, then order u64 | index_min u64 | source u32 | target u32. `word` is 0.
  copyOrderReplies @22 :Data;
  # 40 bytes each: the 24, then order u64 | index u64. `word` is the outcome: 1 sending, 2 installed, 3 failed.
  orderedChunks @23 :Data;
  # 64 bytes each: the 56 of a copyChunk, then order u64. `word` is the CRC-32 of its data, which is the next
  # item of `orderedData`.
  orderedData @24 :List(Data);
  # The data of all orderedChunks, in order.
}

struct DescendantPlace {
  # A learner somewhere below the sender.

  host @0 :UInt32;
  # Its host id.
  endpoint @1 :Text;
  # Where it listens, "HOST:PORT".
  tier @2 :UInt16;
  # Its place in the read tree.
  parent @3 :UInt32;
  # Who feeds it.
}

struct ChildHello {
  # The child's first message on the link, and again whenever `descendants` changed.

  child @0 :UInt32;
  # Its host id.
  endpoint @1 :Text;
  # Where it listens, "HOST:PORT".
  descendants @2 :List(DescendantPlace);
  # Every learner below it.
}

struct ParentHello {
  # The parent's answer.

  parent @0 :UInt32;
  # Its host id.
  tier @1 :UInt16;
  # Its place in the read tree; the child's is one more.
  path @2 :List(UInt32);
  # The host ids of its ancestors from the voter down, itself last.
  hasShardMap @3 :Bool;
  # Whether `shardMap` says anything.
  shardMap @4 :Common.ShardMap;
  # The map that the parent knows.
}

struct LinkFrame {
  # Messages between a parent and a child of the read tree.

  kinds @0 :Data;
  # One byte per message, in order.
  childHellos @1 :List(ChildHello);
  # From the child.
  parentHellos @2 :List(ParentHello);
  # From the parent.
  attaches @3 :Data;
  # 40 bytes each: shard u32 | reserved u32 | applied_index u64 | applied_term u64 | applied_hash u64
  # | epoch u64.
  attachReplies @4 :Data;
  # 16 bytes each: shard u32 | outcome u32 | commit_index u64. Outcomes: 1 streaming, 2 parked (the
  # child is ahead), 3 copying, 4 diverged, 5 unknown shard.
  feedEntries @5 :Data;
  # 16 bytes each: shard u32 | entries u32 | commit_index u64. Its entries are the next ones of
  # `entries`.
  feedAcks @6 :Data;
  # 16 bytes each: shard u32 | reserved u32 | applied_index u64.
  feedHeartbeats @7 :Data;
  # 4 bytes each: the number of its commit indexes, which are in the next item of `commitIndexes`.
  commitIndexes @8 :List(Data);
  # One item per feedHeartbeat, 16 bytes per shard in it: shard u32 | reserved u32 | commit_index u64.
  copyChunks @9 :Data;
  # As in PeerFrame.
  copyReplies @10 :Data;
  # As in PeerFrame.
  entries @11 :List(Data);
  # The entries of all feedEntries, concatenated in order.
  chunks @12 :List(Data);
  # The data of all copyChunks, in order.
}
