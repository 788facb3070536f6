"""Who owns which keys: slots, key ranges, the shard map. Pure.

What this room does: turns a user's key into a routing key and a routing key into a shard. What
it never does: move data, talk to hosts, or decide what the map should be.
"""
