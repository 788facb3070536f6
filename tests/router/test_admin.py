"""What a router asks of a cluster for an operator: of the right host, until it is done, and typed when it fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shardraft.errors import Conflict, DeadlineExceeded, InvalidArgument, Overloaded
from shardraft.kv.requests import (
    ChangeMembersRequest,
    ClientRequest,
    ErrorReply,
    PlaceRequest,
    SnapshotRequest,
    TransferRequest,
)
from shardraft.wire.client import encode_reply
from shardraft_router import Router, open_router
from tests.router.server import FakeServer, serving

pytestmark = pytest.mark.anyio
SHARD = 1


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with serving() as server:
        yield server


@pytest.fixture
async def router(server: FakeServer) -> AsyncIterator[Router]:
    async with open_router(server.endpoints, timeout_seconds=5) as router:
        yield router


def asked(server: FakeServer, kind: type[ClientRequest]) -> list[int]:
    """The hosts that were asked, in order."""
    return [server.cluster.host_of(endpoint)[0] for endpoint, request in server.requests if isinstance(request, kind)]


async def test_a_transfer_is_asked_of_the_leader_wherever_it_is(server: FakeServer, router: Router) -> None:
    server.cluster.lead(3)
    reply = await router.admin.transfer(SHARD, 2)
    assert (reply.leader, server.cluster.leaders[SHARD]) == (2, 2)
    assert asked(server, TransferRequest)[-1] == 3


async def test_a_transfer_while_nobody_leads_waits_until_somebody_does(server: FakeServer, router: Router) -> None:
    server.cluster.lead(0)
    refusals = iter(range(5))

    def elect(endpoint: str, request: ClientRequest) -> bytes | None:
        if isinstance(request, TransferRequest) and next(refusals, None) is None:
            server.cluster.lead(1)
        return None

    server.instead = elect
    assert (await router.admin.transfer(SHARD, 2)).leader == 2


async def test_a_transfer_whose_answer_is_lost_is_asked_for_again(server: FakeServer, router: Router) -> None:
    """It was carried out: the new leader says that it leads already."""
    lost = iter([True])
    server.lose_reply = lambda endpoint, request: isinstance(request, TransferRequest) and next(lost, False)
    assert (await router.admin.transfer(SHARD, 2)).leader == 2


async def test_a_host_that_does_not_take_over_is_told_as_a_conflict(server: FakeServer, router: Router) -> None:
    server.cluster.dead = {2}
    with pytest.raises(Conflict, match="did not take over") as refusal:
        await router.admin.transfer(SHARD, 2)
    assert refusal.value.applied == "no"


async def test_an_overloaded_leader_is_asked_again_and_the_timeout_names_why(
    server: FakeServer, router: Router
) -> None:
    """The last time it asks for more patience than there is, so no question is under way when the time is over."""
    waits_ms = iter([30, 30, 60_000])

    def refuse(endpoint: str, request: ClientRequest) -> bytes | None:
        if isinstance(request, TransferRequest):
            return encode_reply(ErrorReply(request.request_id, Overloaded("too much", retry_after_ms=next(waits_ms))))
        return None

    server.instead = refuse
    with pytest.raises(DeadlineExceeded, match=r"nothing was begun \(too much\)") as refusal:
        await router.admin.transfer(SHARD, 2, timeout_seconds=30)
    assert refusal.value.applied == "no"
    assert len(asked(server, TransferRequest)) == 3


async def test_a_silent_leader_leaves_the_outcome_unknown(server: FakeServer, router: Router) -> None:
    server.silent = lambda endpoint, request: isinstance(request, TransferRequest)
    with pytest.raises(DeadlineExceeded, match="goes on") as refusal:
        await router.admin.transfer(SHARD, 2, timeout_seconds=0.3)
    assert refusal.value.applied == "unknown"


async def test_a_snapshot_is_asked_of_the_host_that_is_named(server: FakeServer, router: Router) -> None:
    reply = await router.admin.snapshot(SHARD, 2)
    assert (reply.log_bytes_before, reply.log_bytes) == (100, 0)
    assert asked(server, SnapshotRequest) == [2]


async def test_a_host_that_is_not_done_within_its_time_is_asked_again(server: FakeServer, router: Router) -> None:
    unfinished = iter([True, True])

    def not_yet(endpoint: str, request: ClientRequest) -> bytes | None:
        if isinstance(request, SnapshotRequest) and next(unfinished, False):
            return encode_reply(ErrorReply(request.request_id, DeadlineExceeded("not yet", applied="unknown")))
        return None

    server.instead = not_yet
    await router.admin.snapshot(SHARD, 2)
    assert asked(server, SnapshotRequest) == [2, 2, 2]


async def test_what_is_not_in_the_map_is_refused_unsent(server: FakeServer, router: Router) -> None:
    with pytest.raises(InvalidArgument, match="shard 99"):
        await router.admin.transfer(99, 2)
    with pytest.raises(InvalidArgument, match="host 9"):
        await router.admin.snapshot(SHARD, 9)
    assert asked(server, TransferRequest) == asked(server, SnapshotRequest) == []


async def test_a_change_of_members_is_asked_of_the_leader(server: FakeServer, router: Router) -> None:
    server.cluster.lead(2)
    reply = await router.admin.change_members(SHARD, add=4, remove=3)
    assert [member.host for member in reply.membership.members] == [4, 3]
    assert asked(server, ChangeMembersRequest)[-1] == 2


async def test_every_host_is_told_a_place_and_those_that_cannot_be_are_named(
    server: FakeServer, router: Router
) -> None:
    assert await router.admin.place(4, "d:1") == ()
    assert server.cluster.told == [(1, 4, "d:1"), (2, 4, "d:1"), (3, 4, "d:1")]
    server.silent = lambda endpoint, request: endpoint == server.endpoints[1] and isinstance(request, PlaceRequest)
    (untold,) = await router.admin.place(4, "e:1", timeout_seconds=3)
    assert untold.endpoint == server.endpoints[1]
    assert server.cluster.told[-1] == (3, 4, "e:1")


async def test_a_host_that_is_to_be_forgotten_is_not_told_so_itself(server: FakeServer, router: Router) -> None:
    await router.admin.place(3, "")
    assert server.cluster.told == [(1, 3, ""), (2, 3, "")]
