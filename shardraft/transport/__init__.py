"""Frames over any trio stream: connections with bounded outboxes, a listener, a dialer.

What this room does: accepts and makes connections, exchanges the hello, cuts received bytes into
frames, joins what is sent into one write per wake-up, and confines every fault to its own connection.
What it never does: decode a frame other than the hello, know shards or requests, log (it gives typed
notes to its caller), or buffer without a limit. It takes any ``trio.abc.Stream``, so TLS fits.
"""
