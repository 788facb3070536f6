"""Tests of work on many byte strings at once, in Python and in C."""
