"""The shard map as a Cap'n Proto struct; it travels to clients and lies on disk in the same form."""

from __future__ import annotations

from typing import Any

from shardraft.shards.keyspace import KeyRange
from shardraft.shards.shard_map import HostPlace, Partitioning, Shard, ShardMap
from shardraft.types import Member, Membership


def shard_map_bytes(shard_map: ShardMap) -> int:
    """An upper bound of what the map takes in a message."""
    hosts = sum(40 + 4 * len(host.endpoint) for host in shard_map.hosts)
    shards = sum(
        176 + len(shard.key_range.start) + len(shard.key_range.end) + 32 * len(shard.membership.members)
        for shard in shard_map.shards
    )
    return 128 + hosts + shards


def write_shard_map(builder: Any, shard_map: ShardMap) -> None:
    """Fill the ``ShardMap`` struct behind ``builder``."""
    builder.clusterId = shard_map.cluster_id
    builder.epoch = shard_map.epoch
    builder.partitioning = int(shard_map.partitioning)
    builder.slots = shard_map.slots
    for place, host in zip(builder.init("hosts", len(shard_map.hosts)), shard_map.hosts, strict=True):
        place.host = host.host
        place.endpoint = host.endpoint
    for place, shard in zip(builder.init("shards", len(shard_map.shards)), shard_map.shards, strict=True):
        place.shard = shard.shard
        place.start = shard.key_range.start
        place.end = shard.key_range.end
        write_membership(place.init("membership"), shard.membership)
        place.membershipIndex = shard.membership_index


def read_shard_map(reader: Any) -> ShardMap:
    """The value of a ``ShardMap`` struct; raises one of ``schema.MALFORMED``, as for an unknown partitioning."""
    return ShardMap(
        reader.clusterId,
        reader.epoch,
        Partitioning(reader.partitioning.raw),
        reader.slots,
        tuple(HostPlace(place.host, place.endpoint) for place in reader.hosts),
        tuple(
            Shard(
                place.shard, KeyRange(place.start, place.end), read_membership(place.membership), place.membershipIndex
            )
            for place in reader.shards
        ),
    )


def write_membership(builder: Any, membership: Membership) -> None:
    """Fill the ``Membership`` struct behind ``builder``."""
    for place, member in zip(builder.init("members", len(membership.members)), membership.members, strict=True):
        place.replica = member.replica
        place.host = member.host
    builder.voters = membership.voters
    builder.votersOutgoing = membership.voters_outgoing
    builder.staging = membership.staging
    builder.leaving = membership.leaving


def read_membership(reader: Any) -> Membership:
    """The value of a ``Membership`` struct."""
    return Membership(
        tuple(Member(place.replica, place.host) for place in reader.members),
        tuple(reader.voters),
        tuple(reader.votersOutgoing),
        tuple(reader.staging),
        tuple(reader.leaving),
    )
