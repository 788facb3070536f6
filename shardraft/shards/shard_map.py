"""The shard map: which shard owns which range of routing keys, and where its voters are."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from typing import Final

import attrs

from shardraft.shards.keyspace import (
    SLOT_BYTES,
    SLOTS_MAX,
    KeyRange,
    Partitioning,
    routing_key,
    slot_heads,
    slot_of,
    split_evenly,
)
from shardraft.types import META_SHARD, HostId, Index, Membership, ShardId

__all__ = ["HostPlace", "Partitioning", "Shard", "ShardMap", "SLOTS_DEFAULT", "VOTERS_ALLOWED"]

SLOTS_DEFAULT: Final = 1024
VOTERS_ALLOWED: Final = (1, 3, 5)
"""An even number of voters survives no more failures than one voter fewer, and more than five only add latency."""
_HOST_ID_MAX: Final = 2**32 - 1
_SHARD_ID_MAX: Final = 2**32 - 1


@attrs.frozen(slots=True)
class Shard:
    """One shard: its range of routing keys and its Raft configuration.

    ``membership_index`` is that of the entry which brought the configuration, 0 for the first one: of two that
    are told, the higher is the later.
    """

    shard: ShardId
    key_range: KeyRange
    membership: Membership
    membership_index: Index = 0


@attrs.frozen(slots=True)
class HostPlace:
    """A voter host and where it listens ("HOST:PORT")."""

    host: HostId
    endpoint: str


@attrs.frozen(slots=True)
class ShardMap:
    """``shards`` are sorted by range and cover all keys without gap or overlap; ``epoch`` grows with each change.

    Raises ``ValueError`` when that is not so, or when a shard names a host that the map does not.
    """

    cluster_id: bytes
    epoch: int
    partitioning: Partitioning
    slots: int
    hosts: tuple[HostPlace, ...]
    shards: tuple[Shard, ...]
    # Look-up tables, derived from the fields above once, because the router looks up every operation.
    _starts: list[bytes] = attrs.field(init=False, eq=False, repr=False)
    _by_slot: tuple[Shard, ...] = attrs.field(init=False, eq=False, repr=False)
    _slot_heads: tuple[bytes, ...] = attrs.field(init=False, eq=False, repr=False)
    _by_id: dict[ShardId, Shard] = attrs.field(init=False, eq=False, repr=False)
    _host_by_id: dict[HostId, HostPlace] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_starts", [shard.key_range.start for shard in self.shards])
        object.__setattr__(self, "_by_id", {shard.shard: shard for shard in self.shards})
        object.__setattr__(self, "_host_by_id", {place.host: place for place in self.hosts})
        _check_slots(self)
        _check_hosts(self.hosts)
        _check_coverage(self.shards)
        for shard in self.shards:
            _check_shard(shard, self._host_by_id)
        object.__setattr__(self, "_by_slot", self._slot_table())
        object.__setattr__(self, "_slot_heads", slot_heads(self.slots))

    def _slot_table(self) -> tuple[Shard, ...]:
        if self.partitioning is not Partitioning.HASH:
            return ()
        begins = [int.from_bytes(start, "big") for start in self._starts]
        table: list[Shard] = []
        for shard, begin, end in zip(self.shards, begins, [*begins[1:], self.slots], strict=True):
            table += [shard] * (end - begin)
        return tuple(table)

    @classmethod
    def bootstrap(
        cls,
        cluster_id: bytes,
        hosts: tuple[HostPlace, ...],
        shards: int,
        partitioning: Partitioning = Partitioning.HASH,
        slots: int = SLOTS_DEFAULT,
        voters_max: int = 5,
    ) -> ShardMap:
        """The map a cluster begins with, epoch 1: ``shards`` equal parts with the ids 1 to ``shards``.

        Each shard has as many voters as there are hosts, but at most ``voters_max`` (1, 3 or 5), and the
        next lower odd number when that is even. Its replica 1 lies on the next host of the round for each
        shard, and replicas 2 and up on the hosts after that. Raises ``ValueError`` for no hosts, other
        numbers of voters, or more shards than slots.
        """
        if voters_max not in VOTERS_ALLOWED:
            raise ValueError(f"a shard has 1, 3 or 5 voters, not {voters_max}")
        if not hosts:
            raise ValueError("a cluster needs at least one host")
        voters = max(count for count in VOTERS_ALLOWED if count <= min(len(hosts), voters_max))
        ranges = split_evenly(shards, slots if partitioning is Partitioning.HASH else SLOTS_MAX)
        return cls(
            cluster_id=cluster_id,
            epoch=1,
            partitioning=partitioning,
            slots=slots,
            hosts=hosts,
            shards=tuple(
                Shard(number + 1, key_range, _round_robin(hosts, number, voters))
                for number, key_range in enumerate(ranges)
            ),
        )

    def joined_with(self, other: ShardMap) -> ShardMap:
        """The later of the two maps; of equal epochs this one, with what the other knows later, or besides.

        This very map when the other has nothing to add. A host is where this map says, if it does.
        """
        if other.epoch != self.epoch:
            return other if other.epoch > self.epoch else self
        hosts = self.hosts + tuple(place for place in other.hosts if self.host_by_id(place.host) is None)
        told = {shard.shard: shard for shard in other.shards}
        shards = tuple(_later(shard, told.get(shard.shard, shard)) for shard in self.shards)
        if len(hosts) == len(self.hosts) and shards == self.shards:
            return self
        return attrs.evolve(self, hosts=tuple(sorted(hosts, key=lambda place: place.host)), shards=shards)

    def shard_of(self, routing: bytes) -> Shard:
        """The shard that owns a routing key; there always is one."""
        return self.shards[bisect_right(self._starts, routing) - 1]

    def shard_of_slot(self, slot: int) -> Shard:
        """The shard that owns a slot, 0 up to and without ``slots``; hash partitioning only."""
        return self._by_slot[slot]

    def locate(self, key: bytes) -> tuple[Shard, bytes]:
        """The shard of a *user's* key, and its routing key."""
        by_slot = self._by_slot
        if by_slot:
            slot = slot_of(key, self.slots)
            return by_slot[slot], self._slot_heads[slot] + key
        return self.shard_of(key), key

    def routing_key(self, key: bytes) -> bytes:
        """The routing key of a user's key."""
        return routing_key(key, self.partitioning, self.slots)

    def shards_over(self, key_range: KeyRange) -> tuple[Shard, ...]:
        """The shards that own any part of ``key_range``, in order; a scan visits these."""
        return tuple(shard for shard in self.shards if not shard.key_range.overlap(key_range).is_empty())

    def shard_by_id(self, shard: ShardId) -> Shard | None:
        """The shard of that id, or None when the map has none."""
        return self._by_id.get(shard)

    def host_by_id(self, host: HostId) -> HostPlace | None:
        """The voter host of that id, or None when the map has none."""
        return self._host_by_id.get(host)

    def shards_on(self, host: HostId) -> tuple[Shard, ...]:
        """The shards that have a replica on ``host``, in order of their ranges."""
        return tuple(shard for shard in self.shards if shard.membership.replica_on(host))


def _later(shard: Shard, other: Shard) -> Shard:
    return other if other.membership_index > shard.membership_index else shard


def _round_robin(hosts: tuple[HostPlace, ...], first: int, voters: int) -> Membership:
    return Membership.of({place + 1: hosts[(first + place) % len(hosts)].host for place in range(voters)})


def _check_slots(shard_map: ShardMap) -> None:
    if not 1 <= shard_map.slots <= SLOTS_MAX:
        raise ValueError(f"a map has 1 to {SLOTS_MAX} slots, not {shard_map.slots}")
    if shard_map.partitioning is Partitioning.HASH:
        # Two bytes that begin a slot, or nothing: a boundary inside a slot would tear keys of one tag apart.
        for start in shard_map._starts:
            if start and (len(start) != SLOT_BYTES or int.from_bytes(start, "big") >= shard_map.slots):
                raise ValueError(f"the boundary {start.hex()} is not where one of {shard_map.slots} slots begins")


def _check_hosts(hosts: tuple[HostPlace, ...]) -> None:
    for host in _repeated(place.host for place in hosts):
        raise ValueError(f"host {host} is in the map twice")
    for place in hosts:
        if not 1 <= place.host <= _HOST_ID_MAX:
            raise ValueError(f"{place.host} is no host id: these are 1 to {_HOST_ID_MAX}")


def _check_coverage(shards: tuple[Shard, ...]) -> None:
    for shard_id in _repeated(shard.shard for shard in shards):
        raise ValueError(f"shard {shard_id} is in the map twice")
    expected = b""
    for position, shard in enumerate(shards):
        start, end = shard.key_range.start, shard.key_range.end
        if start != expected:
            fault = "overlaps the one before" if start < expected else "leaves a gap before it"
            raise ValueError(f"the range of shard {shard.shard} {fault}")
        is_last = position == len(shards) - 1
        if shard.key_range.is_empty() or (not end and not is_last):
            raise ValueError(f"the range of shard {shard.shard} is empty, or has no end before the last one")
        expected = end
    if not shards or expected:
        raise ValueError("the shards do not cover all keys")


def _check_shard(shard: Shard, hosts: dict[HostId, HostPlace]) -> None:
    if not META_SHARD < shard.shard <= _SHARD_ID_MAX:
        raise ValueError(f"{shard.shard} is no id of a shard of user keys: these are 1 to {_SHARD_ID_MAX}")
    membership = shard.membership
    replicas = {member.replica for member in membership.members}
    if not membership.voters or not replicas.issuperset(
        (*membership.voters, *membership.voters_outgoing, *membership.staging)
    ):
        raise ValueError(f"shard {shard.shard} has no voters, or ones that are not among its members")
    for host in _repeated(member.host for member in membership.members):
        raise ValueError(f"shard {shard.shard} has two replicas on host {host}")
    for member in membership.members:
        if member.host not in hosts:
            raise ValueError(f"shard {shard.shard} has a replica on host {member.host}, which is not in the map")


def _repeated(numbers: Iterable[int]) -> list[int]:
    return sorted(number for number, times in Counter(numbers).items() if times > 1)
