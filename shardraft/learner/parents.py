"""Where a learner looks for its parent: those that it was given, and at need the voter hosts that parents tell of."""

from __future__ import annotations

from shardraft.config import Limits
from shardraft.shards.shard_map import ShardMap


class Parents:
    """One endpoint at a time. The driver connects to ``endpoint`` and calls ``turn_to_next`` when that came to nothing.

    An operator places learners below learners to spare the voter hosts, so these are asked only once the given
    parents were tried in vain for ``parent_search_ms_max``, or one of them lacked a shard. Given parents stay first.
    """

    def __init__(self, given: tuple[str, ...], limits: Limits, shard_map: ShardMap | None = None) -> None:
        self._given = given
        self._told: tuple[str, ...] = ()
        self._search_us_max = limits.parent_search_ms_max * 1000
        self._searching_since_us: int | None = None
        self._one_lacks = False
        self.endpoint = given[0] if given else ""
        """The parent to be connected to now, "HOST:PORT"."""
        if shard_map is not None:
            self.tell(shard_map)

    def tell(self, shard_map: ShardMap) -> None:
        """The voter hosts that there are, as far as the present parent knows."""
        self._told = tuple(place.endpoint for place in shard_map.hosts if place.endpoint not in self._given)

    @property
    def has_other(self) -> bool:
        """Whether anybody else could be the parent."""
        return any(endpoint != self.endpoint for endpoint in (*self._given, *self._told))

    def lacks_shard(self) -> None:
        """The present parent does not hold all shards: whoever does is better."""
        self._one_lacks = True

    def was_whole(self) -> None:
        """The present parent held all shards: the search for one was over."""
        self._searching_since_us = None
        self._one_lacks = False

    def turn_to_next(self, now_us: int) -> None:
        """The present parent cannot be reached, refuses, is gone or was given up."""
        if self._searching_since_us is None:
            self._searching_since_us = now_us
        is_wide = self._one_lacks or now_us - self._searching_since_us >= self._search_us_max or not self._given
        endpoints = (*self._given, *self._told) if is_wide else self._given
        if endpoints:
            place = endpoints.index(self.endpoint) + 1 if self.endpoint in endpoints else 0
            self.endpoint = endpoints[place % len(endpoints)]
