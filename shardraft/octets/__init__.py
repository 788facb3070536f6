"""Work on many byte strings at once: columns packed and taken apart, records made, checksums.

What this room does: for each operation of a batch, in one call for all of them, what would be a dozen calls into the
interpreter's library, in C where that was compiled and else in Python, behind the same names (``functions``). What it
never does: know what the bytes are for, keep any of them, or read a clock, a file or a socket.
"""
