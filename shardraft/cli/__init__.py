"""The command ``shardraft``: ``dev``, ``host``, ``learner``, ``get``, ``put``, ``status``, ``sim`` and the rest.

What this room does: reads the command line, calls one thing below it, prints what came of it, and
turns errors into one line and an exit code. What it never does: hold a rule of the system; whatever
a command can do, a program can do without it. A command's module is imported only when it is
invoked, so that ``--help`` answers at once.
"""
