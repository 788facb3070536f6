"""The real world: drives one host with trio, threads that write, and TCP.

What this room does: the main loop, what wakes it (sockets, threads, a timer), the commits of the log and who writes
them, the disk threads, the clock, the collector's settings.
What it never does: decide anything about Raft, keys or learners; it carries out what a turn asks and says what
happened.
"""
