"""One process as a pure machine: every shard of a host behind ``step``, ``begin_turn``, ``finish_turn``.

What this room does: routes messages and requests to replicas, lets them take turns together,
keeps the order of durability, decides when state is flushed and logs are compacted, copies state
to those who fell behind, runs the rounds that idle groups rest on, and feeds the read tree. What it
never does: I/O, clocks, threads, logging, or entropy of its own; ``runtime/`` and ``sim/`` drive the
very same object.

The driver's loop (DESIGN section 2)::

    for event in events:
        host.step(event)
    turn = host.begin_turn(now_us)
    send(turn.messages); reply(turn.replies); record(turn.notes)   # rest on nothing that is not yet durable
    disk.commit_log(turn.log_batch)                                # one sync for all shards
    ...                                                            # and when that commit is synced, in order:
    outcome = host.finish_turn(turn.number, now_us)
    send(outcome.messages)                                         # votes and acknowledgements may leave
"""
