"""One process of a cluster: its data directory, its host, its connections, its log lines.

What this room does: wires the other rooms together, says who may connect as what, and begins and
ends a process gracefully. What it never does: decide anything about Raft, keys or learners.
"""
