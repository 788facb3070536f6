"""Tests of what is replicated: batches, sessions, the machine and its write buffer."""
