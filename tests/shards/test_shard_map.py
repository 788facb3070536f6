"""The shard map: bootstrap, look-up, and what is no map."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardraft.shards.keyspace import KeyRange, Partitioning, prefix_range, routing_key, slot_of
from shardraft.shards.shard_map import HostPlace, Shard, ShardMap
from shardraft.types import Member, Membership

CLUSTER = b"cluster-16-bytes"
HASH, RANGE = Partitioning.HASH, Partitioning.RANGE


def hosts(count: int) -> tuple[HostPlace, ...]:
    return tuple(HostPlace(10 + number, f"127.0.0.1:{7000 + number}") for number in range(count))


def bootstrap(host_count: int = 3, shards: int = 8, **options: Any) -> ShardMap:
    return ShardMap.bootstrap(CLUSTER, hosts(host_count), shards, **options)


# Bootstrap.


def test_a_cluster_begins_with_equal_shards_numbered_from_one() -> None:
    """Shard 0 is reserved for the meta group."""
    shard_map = bootstrap(shards=8)
    assert (shard_map.cluster_id, shard_map.epoch, shard_map.partitioning) == (CLUSTER, 1, HASH)
    assert [shard.shard for shard in shard_map.shards] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [sum(shard_map.shard_of_slot(slot) is shard for slot in range(1_024)) for shard in shard_map.shards] == [
        128
    ] * 8


def test_voters_go_round_the_hosts_so_that_each_is_first_about_as_often() -> None:
    shard_map = bootstrap(host_count=4, shards=4, voters_max=3)
    assert [[member.host for member in shard.membership.members] for shard in shard_map.shards] == [
        [10, 11, 12],
        [11, 12, 13],
        [12, 13, 10],
        [13, 10, 11],
    ]
    for shard in shard_map.shards:
        assert shard.membership.voters == (1, 2, 3)
        assert (shard.membership.voters_outgoing, shard.membership.staging) == ((), ())


@pytest.mark.parametrize(
    ("host_count", "voters_max", "voters"),
    [(1, 5, 1), (2, 5, 1), (3, 5, 3), (4, 5, 3), (5, 5, 5), (9, 5, 5), (9, 3, 3), (9, 1, 1)],
)
def test_a_shard_has_one_three_or_five_voters(host_count: int, voters_max: int, voters: int) -> None:
    for shard in bootstrap(host_count, voters_max=voters_max).shards:
        assert len(shard.membership.voters) == voters
        assert len({member.host for member in shard.membership.members}) == voters


@pytest.mark.parametrize("voters_max", [0, 2, 4, 6, 7])
def test_no_other_number_of_voters_is_accepted(voters_max: int) -> None:
    with pytest.raises(ValueError, match=f"1, 3 or 5 voters, not {voters_max}"):
        bootstrap(voters_max=voters_max)


def test_a_range_partitioned_cluster_splits_the_first_two_bytes_evenly() -> None:
    shard_map = bootstrap(shards=4, partitioning=RANGE)
    assert [shard.key_range for shard in shard_map.shards] == [
        KeyRange(b"", b"\x40\x00"),
        KeyRange(b"\x40\x00", b"\x80\x00"),
        KeyRange(b"\x80\x00", b"\xc0\x00"),
        KeyRange(b"\xc0\x00", b""),
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"host_count": 0}, "at least one host"),
        ({"shards": 0}, "0 parts"),
        ({"shards": 1_025}, "1025 parts"),
        ({"shards": 9, "slots": 8}, "9 parts"),
        ({"slots": 0}, "8 parts"),
        ({"slots": 65_537}, "8 parts"),
    ],
)
def test_what_cannot_be_a_cluster_is_refused(options: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        bootstrap(**options)


# Look-up.


@settings(deadline=None, derandomize=True)
@given(
    key=st.binary(max_size=30),
    shards=st.integers(1, 64),
    partitioning=st.sampled_from(Partitioning),
    slots=st.sampled_from((64, 1_000, 1_024)),
)
def test_every_key_has_exactly_one_shard(key: bytes, shards: int, partitioning: Partitioning, slots: int) -> None:
    shard_map = bootstrap(shards=shards, partitioning=partitioning, slots=slots)
    routing = routing_key(key, partitioning, slots)
    [owner] = [shard for shard in shard_map.shards if shard.key_range.holds(routing)]
    assert shard_map.shard_of(routing) is owner
    assert shard_map.locate(key) == (owner, routing)
    assert shard_map.routing_key(key) == routing
    if partitioning is HASH:
        assert shard_map.shard_of_slot(slot_of(key, slots)) is owner


@pytest.mark.parametrize("routing", [b"", b"\x00", b"\xff\xff\xff", b"\x04\x00", b"\x03"])
def test_even_a_key_that_no_router_makes_has_a_shard(routing: bytes) -> None:
    shard_map = bootstrap(shards=5)
    assert shard_map.shard_of(routing).key_range.holds(routing)


def test_shards_and_hosts_are_found_by_id() -> None:
    shard_map = bootstrap(host_count=4, shards=4, voters_max=3)
    assert shard_map.shard_by_id(2) is shard_map.shards[1]
    assert shard_map.shard_by_id(0) is None
    assert shard_map.shard_by_id(5) is None
    assert shard_map.host_by_id(11) == HostPlace(11, "127.0.0.1:7001")
    assert shard_map.host_by_id(99) is None
    assert [shard.shard for shard in shard_map.shards_on(10)] == [1, 3, 4]
    assert shard_map.shards_on(99) == ()


def test_a_scan_visits_the_shards_that_its_range_touches() -> None:
    shard_map = bootstrap(shards=4, partitioning=RANGE)

    def visited(key_range: KeyRange) -> list[int]:
        return [shard.shard for shard in shard_map.shards_over(key_range)]

    assert visited(KeyRange()) == [1, 2, 3, 4]
    assert visited(KeyRange(b"\x40", b"\x80\x00")) == [1, 2]
    assert visited(KeyRange(b"\x40\x00", b"\x80\x00\x00")) == [2, 3]
    assert visited(prefix_range(b"\xff")) == [4]


def test_equal_maps_are_equal_and_may_be_changed_by_evolving() -> None:
    shard_map = bootstrap()
    assert shard_map == bootstrap()
    assert hash(shard_map) == hash(bootstrap())
    later = attrs.evolve(shard_map, epoch=2)
    assert later != shard_map
    assert later.shard_of_slot(5) == shard_map.shard_of_slot(5)


# What is no map.

VOTERS = Membership.of({1: 10, 2: 11, 3: 12})


def three_shards(*boundaries: tuple[bytes, bytes]) -> ShardMap:
    shards = tuple(Shard(number + 1, KeyRange(*ends), VOTERS) for number, ends in enumerate(boundaries))
    return ShardMap(CLUSTER, 1, RANGE, 1_024, hosts(3), shards)


def test_ranges_that_cover_everything_in_order_are_a_map() -> None:
    three_shards((b"", b"b"), (b"b", b"m"), (b"m", b""))


@pytest.mark.parametrize(
    ("boundaries", "text"),
    [
        ([(b"", b"b"), (b"c", b"")], "shard 2 leaves a gap"),
        ([(b"a", b"")], "shard 1 leaves a gap"),
        ([(b"", b"c"), (b"b", b"")], "shard 2 overlaps"),
        ([(b"", b"m"), (b"m", b"z")], "do not cover"),
        ([(b"", b""), (b"", b"")], "no end before the last"),
        ([(b"", b"m"), (b"m", b"m"), (b"m", b"")], "is empty"),
        ([(b"", b"m"), (b"m", b"c"), (b"c", b"")], "is empty"),
        ([(b"m", b""), (b"", b"m")], "shard 1 leaves a gap"),
        ([], "do not cover"),
    ],
)
def test_gaps_and_overlaps_are_refused(boundaries: list[tuple[bytes, bytes]], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        three_shards(*boundaries)


def with_first(shard_map: ShardMap, **changes: Any) -> ShardMap:
    first = attrs.evolve(shard_map.shards[0], **changes)
    return attrs.evolve(shard_map, shards=(first, *shard_map.shards[1:]))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"shard": 2}, "shard 2 is in the map twice"),
        ({"shard": 0}, "0 is no id of a shard"),
        ({"shard": 2**32}, "is no id of a shard"),
        ({"membership": Membership.of({1: 10, 2: 99})}, "host 99, which is not in the map"),
        ({"membership": Membership.of({1: 10, 2: 10})}, "two replicas on host 10"),
        ({"membership": Membership.of({})}, "has no voters"),
        ({"membership": Membership((Member(1, 10),), (1, 2))}, "not among its members"),
        ({"membership": Membership((Member(1, 10),), (1,), staging=(3,))}, "not among its members"),
    ],
)
def test_a_shard_with_an_impossible_id_or_membership_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        with_first(bootstrap(), **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"hosts": (*hosts(3), HostPlace(10, "elsewhere:1"))}, "host 10 is in the map twice"),
        ({"hosts": (*hosts(3), HostPlace(0, "elsewhere:1"))}, "0 is no host id"),
        ({"hosts": hosts(2)}, "host 12, which is not in the map"),
        ({"slots": 0}, "not 0"),
        ({"slots": 65_537}, "not 65537"),
        ({"slots": 4}, "not where one of 4 slots begins"),
    ],
)
def test_impossible_hosts_and_slots_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        attrs.evolve(bootstrap(), **changes)


def test_with_hash_partitioning_no_slot_lies_in_two_shards() -> None:
    halves = (Shard(1, KeyRange(b"", b"\x00\x05x"), VOTERS), Shard(2, KeyRange(b"\x00\x05x", b""), VOTERS))
    with pytest.raises(ValueError, match="not where one of 1024 slots begins"):
        ShardMap(CLUSTER, 1, HASH, 1_024, hosts(3), halves)


def joining_maps() -> tuple[ShardMap, ShardMap]:
    """The map of a cluster at its beginning, and one in which host 4 took the place of host 3 in shard 1."""
    hosts = tuple(HostPlace(host, f"h{host}:1") for host in (1, 2, 3))
    first = ShardMap.bootstrap(b"c" * 16, hosts, 2)
    shards = (attrs.evolve(first.shards[0], membership=Membership.of({1: 1, 2: 2, 4: 4}), membership_index=9),)
    moved = attrs.evolve(first, hosts=(*hosts, HostPlace(4, "h4:1")), shards=(*shards, first.shards[1]))
    return first, moved


def test_maps_of_one_epoch_are_joined_into_what_either_knows_last() -> None:
    first, moved = joining_maps()
    assert first.joined_with(moved) == moved
    assert moved.joined_with(first) is moved
    assert first.joined_with(first) is first


def test_of_maps_of_different_epochs_the_later_stands_alone() -> None:
    first, moved = joining_maps()
    later = attrs.evolve(first, epoch=2)
    assert moved.joined_with(later) is later
    assert later.joined_with(moved) is later


def test_a_host_that_both_maps_name_is_where_the_first_says() -> None:
    first, moved = joining_maps()
    elsewhere = attrs.evolve(moved, hosts=(HostPlace(1, "x:1"), *moved.hosts[1:]))
    assert first.joined_with(elsewhere).hosts == moved.hosts
