"""Tests of the pure Raft core."""
