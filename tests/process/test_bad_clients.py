"""Requests that make no sense get a typed refusal, certainly not applied; what cannot be read ends the connection."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from shardraft.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotLeader,
    ShardraftError,
    TooLarge,
    Unimplemented,
    WrongShard,
)
from shardraft.kv.commands import DELETE, PUT
from shardraft.kv.requests import (
    ClientRequest,
    Consistency,
    MapRequest,
    ReadReply,
    ScanRequest,
    StatusReply,
    StatusRequest,
    WriteReply,
)
from shardraft.raft.messages import Heartbeat
from shardraft.types import HostId
from shardraft.wire.client import encode_request
from shardraft.wire.peer import encode_peer_frame
from tests.process.attack import KEY, KEY_OF_ANOTHER_SHARD, SHARD, batch, others_unharmed, read, refusal, refused, write
from tests.process.cluster import ProcessCluster
from tests.process.wire_client import WireClient

pytestmark = pytest.mark.slow

LEARNER: HostId = 101


@pytest.fixture
def leader(attacked: ProcessCluster) -> HostId:
    return attacked.leader_of(SHARD)


@pytest.fixture
def client(attacked: ProcessCluster, leader: HostId) -> Iterator[WireClient]:
    """An ordinary client of the leader, until it misbehaves."""
    with others_unharmed(attacked, leader), WireClient(attacked.endpoints[leader]) as connection:
        yield connection.hello()


def unknown_request() -> bytes:
    """A request with a member of the union that nobody knows: the one number in which two void ones differ is set."""
    known, other = encode_request(MapRequest(7)), encode_request(StatusRequest(7))
    (place,) = [place for place in range(len(known)) if known[place] != other[place]]
    return known[:place] + b"\x63" + known[place + 1 :]


def test_an_unknown_request_is_refused_and_the_connection_goes_on(client: WireClient) -> None:
    client.send(unknown_request())
    assert isinstance(refused(client.reply(), 7), Unimplemented)
    assert isinstance(client.ask(StatusRequest(8)), StatusReply)


SCAN = ScanRequest(7, SHARD, 1, 10_000, Consistency.LINEARIZABLE, b"", b"", 10)


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (write(batch([b"\x00\x01"], [b""])), InvalidArgument, "a key is empty"),
        (write(batch([b""], [b""])), InvalidArgument, "a key is empty"),
        (write(batch([b"\x00\x01" + b"k" * 481], [b""])), InvalidArgument, "a key is longer than 480 bytes"),
        (write(batch([KEY], [bytes((1 << 20) + 1)])), TooLarge, "a value of 1048577 bytes"),
        (write(batch([KEY] * 4097, [b""] * 4097)), TooLarge, "a batch of 4097 operations"),
        (write(batch([KEY] * 5, [bytes(1 << 20)] * 5)), TooLarge, "a batch of 5242905 bytes"),
        (write(batch([], [])), InvalidArgument, "the batch holds no operation"),
        (write(attrs.evolve(batch([KEY], [b""]), kinds=b"\x09")), InvalidArgument, "does not know"),
        (write(attrs.evolve(batch([KEY], [b"v"]), kinds=bytes([DELETE]))), InvalidArgument, "a delete carries a value"),
        (write(attrs.evolve(batch([KEY], [b""]), kinds=bytes([PUT, PUT]))), InvalidArgument, "not of one length"),
        (write(attrs.evolve(batch([KEY], [b""]), answered_below=9)), InvalidArgument, "sequence 1 lies below 9"),
        (write(b"no batch at all"), InvalidArgument, "the batch is no message of this protocol"),
        (write(batch([KEY], [b""]), timeout_ms=0), DeadlineExceeded, "the deadline had passed on arrival"),
        (write(batch([KEY], [b""]), shard=99), WrongShard, "this host does not hold the shard"),
        (write(batch([KEY_OF_ANOTHER_SHARD], [b""])), WrongShard, "wrong shard"),
        (read([]), InvalidArgument, "a read names 1 to 4096 keys"),
        (read([KEY] * 4097), InvalidArgument, "a read names 1 to 4096 keys"),
        (read([KEY], shard=0), WrongShard, "this host does not hold the shard"),
        (read([KEY_OF_ANOTHER_SHARD]), WrongShard, "wrong shard"),
        (attrs.evolve(SCAN, limit=0), InvalidArgument, "a scan needs a positive limit"),
        (attrs.evolve(SCAN, start=b"b", end=b"a"), InvalidArgument, "an end after its start"),
        (attrs.evolve(SCAN, start=KEY_OF_ANOTHER_SHARD), WrongShard, "wrong shard"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_and_the_connection_goes_on(
    client: WireClient, request_: ClientRequest, error: type[ShardraftError], text: str
) -> None:
    found = refusal(client, request_)
    assert type(found) is error
    assert text in str(found)
    assert isinstance(client.ask(write(batch([KEY], [b"v"]))), WriteReply)


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        (b"\xde\xad\xbe\xef" * 1000, InvalidArgument, "this is no frame of this protocol"),
        (b"\x00\x00\x00\x00\xff\xff\xff\x1f", TooLarge, "a frame of 4294967296 bytes is above the limit"),
        (b"\x00\x00\x00\x00\x02\x00\x00\x00" + bytes(16), InvalidArgument, "the request asks for nothing"),
        (encode_peer_frame((Heartbeat(SHARD, 9, 2, 1, 0, 1),)), InvalidArgument, ""),
        (encode_request(StatusRequest(1))[:-4], DeadlineExceeded, "a frame was not complete within 0.8 s"),
    ],
    ids=["garbage", "4 GiB", "an empty message", "a peer's frame", "half a frame"],
)
def test_what_cannot_be_read_ends_the_connection(
    client: WireClient, said: bytes, error: type[ShardraftError], text: str
) -> None:
    client.send(said)
    found = refused(client.reply(), 0)
    assert type(found) is error
    assert text in str(found)
    assert client.is_closed()


def test_a_request_that_is_cut_off_ends_the_connection(client: WireClient) -> None:
    client.send(encode_request(StatusRequest(1))[:-4])
    client.end()
    assert client.is_closed()


def test_a_client_that_never_reads_is_closed_before_it_costs_much(client: WireClient) -> None:
    assert isinstance(client.ask(write(batch([KEY], [bytes(1 << 20)]))), WriteReply)
    flood = encode_request(read([KEY])) * 100_000
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        client.send(flood)


def test_a_follower_takes_no_writes_and_says_who_does(attacked: ProcessCluster, leader: HostId) -> None:
    follower = next(each for each in attacked.hosts if each != leader)
    with others_unharmed(attacked, follower), WireClient(attacked.endpoints[follower]) as connection:
        client = connection.hello()
        for request in (write(batch([KEY], [b"v"])), read([KEY]), SCAN):
            found = refusal(client, request)
            assert isinstance(found, NotLeader)
            assert found.leader == leader
        assert isinstance(client.ask(read([KEY], Consistency.STALE)), ReadReply)


def test_a_learner_takes_no_writes_and_answers_stale_reads_only(attacked: ProcessCluster) -> None:
    with others_unharmed(attacked, LEARNER), WireClient(attacked.endpoints[LEARNER]) as connection:
        client = connection.hello()
        assert str(refusal(client, write(batch([KEY], [b"v"])))) == "a learner takes no writes"
        assert str(refusal(client, read([KEY]))) == "a learner answers stale reads only"
        reply = client.ask(read([KEY], Consistency.STALE))
        assert isinstance(reply, ReadReply)
        assert reply.tier == 1
