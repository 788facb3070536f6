"""Tests of slots, key ranges and the shard map."""
