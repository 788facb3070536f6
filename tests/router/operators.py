"""What the fake cluster answers an operator: nothing happens but what the answer says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardraft.errors import Conflict, NotLeader
from shardraft.kv.requests import (
    ChangeMembersReply,
    ChangeMembersRequest,
    ClientReply,
    PlaceReply,
    PlaceRequest,
    SnapshotReply,
    SnapshotRequest,
    TransferReply,
    TransferRequest,
)
from shardraft.types import HostId, Membership

if TYPE_CHECKING:
    from tests.router.cluster import FakeCluster

OPERATORS_REQUESTS = (TransferRequest, SnapshotRequest, ChangeMembersRequest, PlaceRequest)


def answer_operator(
    cluster: FakeCluster, host: HostId, request: TransferRequest | SnapshotRequest | ChangeMembersRequest | PlaceRequest
) -> ClientReply:
    if isinstance(request, PlaceRequest):
        cluster.told.append((host, request.host, request.endpoint))
        return PlaceReply(request.request_id)
    if isinstance(request, SnapshotRequest):
        applied = cluster.machines[request.shard].last_applied
        return SnapshotReply(request.request_id, applied, applied + 1, 100, 0, 7)
    leader = cluster.leaders[request.shard]
    if leader != host:
        raise NotLeader(leader=leader, shard=request.shard)
    if isinstance(request, ChangeMembersRequest):
        return ChangeMembersReply(request.request_id, 1, Membership.of({1: request.add, 2: request.remove}))
    if request.host in cluster.dead:
        raise Conflict(f"host {request.host} did not take over", shard=request.shard)
    cluster.leaders[request.shard] = request.host
    return TransferReply(request.request_id, request.host, 2)
