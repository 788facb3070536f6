"""What is replicated: commands, the machine that applies them, and exactly-once sessions. Pure.

What this room does: defines a client's batch and its results, applies committed batches to the
state of one shard, and remembers results so that a retry applies once. What it never does:
consensus, disks, networks, clocks; it knows routing keys as bytes and nothing of slots or hosts.
"""
