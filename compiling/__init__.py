"""Compiles the pure rooms and `wire` with mypyc, for wheels and for the benchmark (decision 0021).

    python -m compiling build/compiled      # both packages as a wheel lays them out, with compiled modules

What this room does: it copies the packages, writes values in a form that mypyc makes native classes of, and
compiles the rooms of ``rooms.ROOMS``. What it never does: touch the source tree, or change what the
program does; tests/compiling compares the decisions of both.
"""
