"""The protocol: Raft as one pure state machine per group.

What this room does: elections with pre-vote and check-quorum, log replication with pipelining
and fast conflict back-off, the commit rule, changes of membership through joint consensus,
leadership transfer, read indexes and leases, restoring from a snapshot. What it never does: I/O,
clocks, threads, logging, entropy of its own, or anything about keys and values.

The caller's contract, one group (``host/`` keeps it for all groups of a process at once)::

    raft.step(message, now_us)              # a message from another replica
    raft.propose(EntryKind.BATCH, payload, now_us)
    raft.read_index(context, now_us)
    raft.propose_membership(change, now_us) # goes through all its steps by itself, whoever leads
    raft.transfer(replica, now_us)
    raft.tick(now_us)                       # when raft.deadline_us has passed

    ready = raft.take_ready()               # everything that came of it, once
    send(ready.messages)                    # rests on nothing that is not yet durable
    persist(ready.write)                    # truncate, then append, then hard state: one commit
    ...                                     # and when, and only when, that commit is synced:
    send(ready.messages_after_persist)      # votes, acknowledgements
    raft.persisted(ready.write)             # in the order the readies were taken
    apply(raft.log entries up to raft.commit_index)

Several readies may be waiting for their commits at once; completions come in order. A leader
sends entries to followers while its own disk still works (thesis section 10.2.1) and counts
itself toward the majority only in ``persisted``. Completions carry the log's *generation*,
which truncation and restore raise, so that a late completion of overwritten entries cannot
make a new entry look persisted (decision 0003).

A snapshot is installed by the caller, between two calls::

    raft.accept_copy(from_replica, term, now_us)     # for every part of it that the leader sends: does it lead?
    if raft.begin_restore(index, index_term):        # is it wanted? nothing is appended from here on
        install(...)                                 # after all writes under way: state first, then the log
        raft.restore(index, index_term, membership)  # or raft.abandon_restore()

Configurations are entries and take effect when they are appended (section 6), so the addresses of
messages change with the log: ``raft.host_of(replica)`` knows every member, and former ones while
the log does. A replica may get a message of one that it does not know, and answers it. Raft keeps
the configurations of the kept log; the applied state keeps the one as of its ``last_applied``, by
decoding the ``MEMBERSHIP`` entries that it applies, and snapshots hold it::

    Raft(..., membership=state.membership, membership_index=state.last_applied)
    Raft(..., membership=membership.UNKNOWN)        # a replica that was just added, with an empty log
    raft.has_left                                   # it may be destroyed, and its number never used again

A group in which nothing happens *rests*, if the caller runs rounds between hosts for it (decision 0010)::

    Raft(..., contact_of=...)                        # the caller's ``Contact`` with each host
    raft.rest(contact, place, now_us)                # a host's round lists this follower; False: it is excepted
    raft.contact_silent(now_us)                      # the host that a follower rests on falls silent
    raft.wake(now_us)                                # there is no such round any more; a leader speaks for itself

A leader lists its group in the contacts by itself. Such rounds move timers and prove nothing else.

With leases on, ``now_us`` of a message must not be earlier than its arrival, nor that of a read.
"""
