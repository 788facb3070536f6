"""Where the hosts of the cluster listen, and the map that clients are told: both change while a cluster runs.

The map that a host keeps says how the cluster began: which shards there are, and who replicated each at
first (decision 0011: later configurations are replicated state). Only its hosts change. What clients are told is that
map with the configurations that are in effect here (decision 0015).
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from shardraft.config import Limits
from shardraft.errors import Conflict, InvalidArgument, Overloaded, ShardraftError, Unavailable
from shardraft.host.events import HostMet, ShardMapKept
from shardraft.host.outbox import Outbox
from shardraft.host.voter import Voter
from shardraft.kv.requests import ErrorReply, PlaceReply, PlaceRequest
from shardraft.shards.shard_map import HostPlace, Shard, ShardMap
from shardraft.types import NO_HOST, HostId, Index, ShardId


class Places:
    """The book of places of one voter host; a learner's never changes and is what its parent said.

    ``on_change`` is called with the map that clients are told from then on, whenever its hosts changed.
    """

    def __init__(
        self,
        host: HostId,
        shard_map: ShardMap | None,
        voters: dict[ShardId, Voter],
        limits: Limits,
        outbox: Outbox,
        on_change: Callable[[ShardMap], None],
    ) -> None:
        self._host = host
        self._map = shard_map
        self._voters = voters
        self._hosts_max = limits.hosts_max
        self._outbox = outbox
        self._on_change = on_change
        self._forgotten: set[HostId] = set()
        self._to_keep: ShardMap | None = None
        self._has_changed = shard_map is not None
        self._asked: list[tuple[int, PlaceRequest]] = []
        """Requests whose answer waits for the next map to be kept, and then those for the map being kept."""
        self._keeping: list[list[tuple[int, PlaceRequest]]] = []
        self._present: tuple[tuple[Index, ...], ShardMap | None] = ((), None)

    # What happens.

    def welcomes(self, host: HostId, endpoint: str) -> bool:
        """Whether a host that says hello may be a voter host: a known one, or one that says where it listens."""
        if host in (NO_HOST, self._host) or host in self._forgotten or self._map is None:
            return False
        if self._map.host_by_id(host) is not None:
            return True
        return bool(endpoint) and len(self._map.hosts) < self._hosts_max

    def knows(self, host: HostId) -> bool:
        """Whether ``host`` is a voter host of the cluster."""
        return self._map is not None and self._map.host_by_id(host) is not None

    def met(self, event: HostMet) -> None:
        """A host that was not known said hello. What is known already stays: an operator said it."""
        if not self.knows(event.host) and self.welcomes(event.host, event.endpoint):
            self._put(HostPlace(event.host, event.endpoint))

    def asked(self, connection: int, request: PlaceRequest, now_us: int) -> None:
        """An operator says where a host listens, or that it is gone. Answered once that is durable."""
        try:
            changed = self._change(request)
        except ShardraftError as error:
            self._outbox.reply(connection, ErrorReply(request.request_id, error))
            return
        if changed or self._to_keep is not None:
            self._asked.append((connection, request))
        elif self._keeping:
            self._keeping[-1].append((connection, request))
        else:
            self._outbox.reply(connection, PlaceReply(request.request_id))

    def _change(self, request: PlaceRequest) -> bool:
        if self._map is None:
            raise Unavailable("this host does not know the map yet")
        host, endpoint = request.host, request.endpoint
        if not endpoint:
            return self._forget(host)
        if host == NO_HOST:
            raise InvalidArgument("0 is no host id")
        self._forgotten.discard(host)
        known = self._map.host_by_id(host)
        if known is None and len(self._map.hosts) >= self._hosts_max:
            raise Overloaded(f"a cluster has at most {self._hosts_max} hosts")
        if known is not None and known.endpoint == endpoint:
            return False
        self._put(HostPlace(host, endpoint))
        return True

    def _forget(self, host: HostId) -> bool:
        assert self._map is not None, "checked before"
        if host == self._host:
            raise Conflict(f"host {host} is asked to forget itself")
        for shard in self.told_shards():
            voter = self._voters.get(shard.shard)
            is_changing = voter is not None and not voter.raft.membership_settled
            if shard.membership.replica_on(host) or is_changing:
                raise Conflict(f"host {host} may hold a replica of shard {shard.shard}: remove it first")
        self._forgotten.add(host)
        if self._map.host_by_id(host) is None:
            return False
        kept = tuple(place for place in self._map.hosts if place.host != host)
        self._adopt(attrs.evolve(self._map, hosts=kept, shards=self._without(host)))
        return True

    def _without(self, host: HostId) -> tuple[Shard, ...]:
        """The shards as kept; a first configuration that names a host which is forgotten gives way to the present."""
        assert self._map is not None, "checked before"
        told = {shard.shard: shard for shard in self.told_shards()}
        return tuple(told[each.shard] if each.membership.replica_on(host) else each for each in self._map.shards)

    def _put(self, place: HostPlace) -> None:
        assert self._map is not None, "nobody is met before the map is known"
        others = [other for other in self._map.hosts if other.host != place.host]
        hosts = tuple(sorted([*others, place], key=lambda each: each.host))
        self._adopt(attrs.evolve(self._map, hosts=hosts))

    def _adopt(self, shard_map: ShardMap) -> None:
        self._map = self._to_keep = shard_map
        self._has_changed = True
        self._present = ((), None)
        present = self.present
        assert present is not None, "a map is known"
        self._on_change(present)

    # What comes of it.

    def take_map(self) -> ShardMap | None:
        """The map to keep, once per change."""
        taken, self._to_keep = self._to_keep, None
        if taken is not None:
            self._keeping.append(self._asked)
            self._asked = []
        return taken

    def kept(self, event: ShardMapKept) -> None:
        """The oldest map that was taken is durable."""
        for connection, request in self._keeping.pop(0):
            self._outbox.reply(connection, PlaceReply(request.request_id))

    def take_places(self) -> tuple[HostPlace, ...] | None:
        """The other hosts to be connected to, all of them, when that has changed."""
        if not self._has_changed or self._map is None:
            return None
        self._has_changed = False
        return tuple(place for place in self._map.hosts if place.host != self._host)

    @property
    def present(self) -> ShardMap | None:
        """What clients are told: the map with the configurations in effect here whose hosts are all known."""
        if self._map is None or not self._voters:
            return self._map
        indexes = tuple(voter.raft.membership_index for voter in self._voters.values())
        known, present = self._present
        if present is None or known != indexes:
            present = attrs.evolve(self._map, shards=self.told_shards())
            self._present = (indexes, present)
        return present

    def told_shards(self) -> tuple[Shard, ...]:
        """The shards of the map, each with the latest configuration that is known here."""
        return () if self._map is None else tuple(map(self._told, self._map.shards))

    def _told(self, shard: Shard) -> Shard:
        voter = self._voters.get(shard.shard)
        if voter is None or not voter.raft.membership.voters:
            return shard
        membership = voter.raft.membership
        if not all(self.knows(member.host) for member in membership.members):
            return shard
        return attrs.evolve(shard, membership=membership, membership_index=voter.raft.membership_index)
