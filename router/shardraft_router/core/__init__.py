"""The client logic of shardraft as one pure state machine. No async, clock, entropy, threads or I/O.

What this room does: routes operations by the shard map, coalesces the operations of all tasks into
one columnar batch per shard, numbers and freezes batches so that they apply exactly once, follows
leaders, retries within each operation's deadline, chooses replicas for stale reads, and plans scans.
What it never does: open connections, encode frames, read a clock, wake tasks, or log; a face or a
simulated client drives it. It imports ``shardraft.kv``, ``shards``, ``types`` and ``errors`` only.

The driver's loop. Whatever happens, feed it in, flush, take, and carry out what was taken::

    core = RouterCore(session=sixteen_random_bytes, random=Random(seed), limits=RouterLimits(),
                      codec=codec, endpoints=("h1:7001", "h2:7001"))

    call = core.write(PUT, key, value, ANY_REVISION, deadline_us=now_us() + 10_000_000)   # as many as arrive
    call.waiter = whatever_finds_the_caller

    core.flush(now_us())                                     # once per pass, not once per operation
    output = core.take()
    for endpoint, request in output.requests: send(endpoint, request)
    for call in output.completed: wake(call.waiter)          # call.error, or call.revision, is set
    for endpoint in output.drops: close(endpoint)            # the core knows already
    if output.wanted is not None: connect_to_exactly(output.wanted)

    # inputs, each followed by flush and take. After replies take alone will do at first: let the tasks that they
    # woke run, and flush once for them all if anything waits then, or ``core.wants_flush``.
    core.host_connected(endpoint, host_id, tier, now_us())   # after the hello
    core.host_disconnected(endpoint, now_us(), "why")        # also when connecting failed
    core.received(endpoint, reply, now_us())                 # raises ProtocolError: close, then host_disconnected
    core.tick(now_us())                                      # at core.next_deadline_us at the latest
    core.cancel(call)                                        # the caller went away

An endpoint is just a name to the core: the shard map's, or one given at the start. The core asks for
connections through ``wanted`` and never assumes one; a driver connects in the background, retries with a
wait of its own, and reports each failure. Requests to an endpoint go out in order on one connection, as on
TCP: one may be lost with its connection, or be carried out after that closed, but none is ever carried out
twice, else a refusal would prove nothing.

What a driver may count on: a call completes once, in ``take`` (parts of a group do not, their group
does); at the latest at its deadline, if ``tick`` is called; never after ``cancel``. An error's ``applied`` is
the operation's certainty over all its attempts. The same inputs give the same outputs.

How certainty is kept. A batch is frozen when first sent, and every retry repeats its payload. After an
attempt of unknown outcome only a result from the session table settles it. ``answered_below`` names the
oldest batch that may still be sent again; a batch that nobody waits for is not sent again, so its late
copies, if any, are refused by the shard as soon as a later batch has told it so.

A map: ``core`` the machine; ``calls`` what is waited for; ``lanes`` queues per shard (``writes`` and
``batches``, ``reads``, ``scans``); ``pacing`` when they may send; ``route`` the way to a leader, ``replicas``
to learners, ``links`` the connections, ``map_source`` and ``host_calls`` questions; ``sessions`` numbers;
``exchange`` what they share.
"""

from shardraft_router.core.calls import (
    AtomicCall,
    Call,
    HostCall,
    PageCall,
    Question,
    ReadCall,
    ReadGroup,
    WriteCall,
    WriteGroup,
)
from shardraft_router.core.core import RouterCore
from shardraft_router.core.exchange import NEVER_US, Output
from shardraft_router.core.limits import RouterLimits
from shardraft_router.core.scans import Scan

__all__ = [
    "NEVER_US",
    "AtomicCall",
    "Call",
    "HostCall",
    "Output",
    "PageCall",
    "Question",
    "ReadCall",
    "ReadGroup",
    "RouterCore",
    "RouterLimits",
    "Scan",
    "WriteCall",
    "WriteGroup",
]
