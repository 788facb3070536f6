"""Tests of one process as a pure machine, and of its parts."""
