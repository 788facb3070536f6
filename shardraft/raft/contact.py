"""What a host knows of one peer host on behalf of all its groups: when it was heard, and who rests on that.

A quiescent group sends nothing of its own. Its leader and its followers *rest* on the rounds between
their hosts: they hold this object and look at it only when they need to know (PROTOCOL, "Rounds,
quiescence"). The host owns it and runs the rounds; raft lists itself, leaves, and reads the times.
"""

from __future__ import annotations

from itertools import takewhile

import attrs

from shardraft.types import ReplicaId, ShardId, Term


@attrs.frozen(slots=True)
class Place:
    """One group on the list of a host's rounds: who leads it there, in which term, and who follows."""

    shard: ShardId
    term: Term
    from_replica: ReplicaId
    to_replica: ReplicaId


class Contact:
    """One peer host. Times are this host's own, in microseconds.

    ``heard_us``: when a round of the peer arrived last. ``answered_us``: when it last answered one of this
    host's, or one of a group that then came to rest. ``led``: the groups that are led here and rest.
    ``version`` counts the changes of that list. ``left``: the shards on the peer's list whose replica here
    does not rest on it (any more).
    """

    __slots__ = ("_changed", "_forgotten", "answered_us", "heard_us", "led", "left", "version")

    def __init__(self, first_version: int) -> None:
        self.heard_us = 0
        self.answered_us = 0
        self.led: dict[ShardId, Place] = {}
        self.left: set[ShardId] = set()
        self.version = first_version
        self._changed: dict[ShardId, int] = {}
        self._forgotten = first_version

    # The list of what this host leads

    def lead(self, place: Place, heard_us: int) -> None:
        """A group begins to rest; its leader heard the follower at ``heard_us``."""
        self.answered_us = max(self.answered_us, heard_us)
        self.led[place.shard] = place
        self._change(place.shard)

    def wake(self, shard: ShardId) -> None:
        """A group rests no more."""
        if self.led.pop(shard, None) is not None:
            self._change(shard)

    def version_of(self, shard: ShardId) -> int:
        """The version of the list that last changed ``shard``."""
        return self._changed[shard]

    def changes_since(self, version: int, changes_max: int) -> tuple[int, list[ShardId]]:
        """The first shards that changed after ``version``, and the version of the list that they lead to."""
        if version == self.version:
            return version, []
        newest_first = takewhile(lambda shard: self._changed[shard] > version, reversed(self._changed))
        shards = list(newest_first)[::-1]
        if len(shards) <= changes_max:
            return self.version, shards
        return self._changed[shards[changes_max - 1]], shards[:changes_max]

    def forget_until(self, version: int) -> None:
        """The peer holds ``version``: what was taken off the list until then need not be told any more."""
        if version <= self._forgotten:
            return
        self._forgotten = version
        changed = self._changed
        old = takewhile(lambda shard: changed[shard] <= version, list(changed))
        for shard in [shard for shard in old if shard not in self.led]:
            del changed[shard]

    def _change(self, shard: ShardId) -> None:
        self.version += 1
        self._changed.pop(shard, None)
        self._changed[shard] = self.version
