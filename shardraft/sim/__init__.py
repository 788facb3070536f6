"""The simulated world: the same hosts, driven by a seed instead of a machine.

What this room does: drives ``shardraft.host.Host`` and the router's pure core under a virtual
clock, a network that loses, delays, duplicates and reorders, disks that keep only what was
committed, and crashes at any point; checks Raft's invariants after every event and the clients'
histories for linearizability; then heals everything and demands progress. What it never does:
read a real clock, sleep, open a socket or a file, start a thread, or draw randomness from
anything but its one seeded generator. It imports neither trio nor lmdb nor pycapnp.

One seed is one trace: running it twice gives the same events in the same order, whatever
PYTHONHASHSEED is, and the same trace hash.
"""
