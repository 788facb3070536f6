"""The tests: the specification of shardraft in executable form."""
