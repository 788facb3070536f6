@0x815880111980bb25;
# What a host keeps on its own disk besides log entries and key-value records.
#
# Every stored value begins with an envelope of 8 bytes, little-endian:
#
#     checksum u32 | format u8 | kind u8 | reserved u16
#
# The checksum is CRC-32 over everything after itself. `format` is the version of that kind's format
# (1); a newer one is refused with a sentence, never guessed at. After the envelope:
#
#     kind 1, hard state       a fixed record: current_term u64 | commit_index u64 | voted_for u32
#                              | reserved u32 (written with every turn, so it is no Cap'n Proto)
#     kind 2, machine state    a MachineState message in stream framing
#     kind 3, shard map        a ShardMap message (common.capnp)
#     kind 4, identity         an Identity message
#
# The rules of evolution in common.capnp hold here too.

struct Identity {
  # Who a data directory belongs to.

  clusterId @0 :Data;
  # The cluster, 16 bytes.
  host @1 :UInt32;
  # The host id.
  incarnation @2 :UInt64;
  # How often this directory was started.
  bootNonce @3 :UInt64;
  # A random number of the last start.
}

struct MachineState {
  # Everything of one shard's state but its keys, exactly as of `lastApplied`.

  shard @0 :UInt32;
  # The shard.
  start @1 :Data;
  # The first routing key that it holds.
  end @2 :Data;
  # The first one that it does not hold any more; empty means no end.
  epoch @3 :UInt64;
  # The map's version under which this range was set.
  lastApplied @4 :UInt64;
  # The index of the last applied entry.
  lastAppliedTerm @5 :UInt64;
  # Its term.
  appliedHash @6 :UInt64;
  # The rolling hash of all applied entries.
  revision @7 :UInt64;
  # The count of applied operations.
  timeUs @8 :UInt64;
  # The leader's time of the last applied entry, microseconds.
  sessions @9 :Data;
  # One record of 36 bytes per session, in order:
  #     session 16 bytes | last_used_us u64 | answered_below u64 | results u32
  # `results` is how many records of the next column are this session's.
  results @10 :Data;
  # One record of 24 bytes per remembered result, ascending by sequence within its session:
  #     sequence u64 | first_revision u64 | operations u16 | positions u16 | found u16 | revisions u16
  # The last four numbers are how many items of the next four columns are this result's.
  outcomes @11 :Data;
  # One byte per operation: an Outcome (client.capnp).
  positions @12 :Data;
  # One u16 per operation of a regrouped batch: its position in the batch first sent.
  foundRevisions @13 :Data;
  # One u64 per operation whose condition did not hold: the revision that its key had.
  revisions @14 :Data;
  # One u64 per operation of a result whose revisions do not follow one another (a regrouped retry).
  membership @15 :Data;
  # The configuration in effect at `lastApplied`, as a membership entry holds it (shardraft/raft/membership.py).
  # Empty: the one that the shard began with, which the shard map says.
  lastReplica @16 :UInt32;
  # The highest replica number in any configuration that was applied, 0 before the first: none is given twice.
}
