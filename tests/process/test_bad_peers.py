"""What no correct host sends, from something that was admitted as one: refused, and no term or vote moves."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import pytest

from shardraft.learner.messages import Attach, ChildHello, FeedAck
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.messages import AppendEntries, Heartbeat, RaftMessage, RequestVote
from shardraft.types import TERM_MAX, HostId
from shardraft.wire.client import encode_request
from shardraft.wire.hello import Hello, Role
from shardraft.wire.peer import encode_link_frame, encode_peer_frame
from tests.process.attack import KEY, SHARD, batch, others_unharmed, write
from tests.process.cluster import ProcessCluster
from tests.process.wire_client import WireClient

pytestmark = pytest.mark.slow


@attrs.frozen
class Impostor:
    """A connection to ``target``, admitted as the voter host ``host``, whose replica numbers are the same."""

    client: WireClient
    target: HostId
    host: HostId
    term: int

    def send(self, *messages: RaftMessage) -> None:
        self.client.send(encode_peer_frame(messages))


@pytest.fixture
def impostor(attacked: ProcessCluster) -> Iterator[Impostor]:
    """Speaks as one follower to the other, with the start that the real one shows."""
    leader = attacked.leader_of(SHARD)
    host, target = [each for each in attacked.hosts if each != leader]
    with WireClient(attacked.endpoints[host]) as real:
        shown = real.say_hello(Hello(role=Role.CLIENT))
    with others_unharmed(attacked, target), WireClient(attacked.endpoints[target]) as client:
        hello = Hello(role=Role.PEER, host=host, incarnation=shown.incarnation, boot_nonce=shown.boot_nonce)
        assert client.say_hello(attrs.evolve(hello, cluster_id=shown.cluster_id)).error is None
        yield Impostor(client, target, host, attacked.shard_status(leader, SHARD).term)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (lambda i: RequestVote(SHARD, TERM_MAX + 1, i.host, i.target, 1, 1), f"term {TERM_MAX + 1} is impossible"),
        (lambda i: Heartbeat(SHARD, 2**64 - 1, i.host, i.target, 0, 1), f"term {2**64 - 1} is impossible"),
        (lambda i: AppendEntries(SHARD, i.term, i.host, i.target, 2**63, 1, 0), "an impossible index or term"),
        (lambda i: Heartbeat(SHARD, i.term, i.target, i.target, 0, 1), "for another replica"),
        (lambda i: Heartbeat(SHARD, i.term, i.host, 99, 0, 1), "for another replica"),
        (lambda i: Heartbeat(99, i.term, i.host, i.target, 0, 1), "for another replica"),
    ],
    ids=["term of a vote", "term of a heartbeat", "index", "from itself", "to nobody", "of no shard"],
)
def test_an_impossible_message_changes_nothing_and_is_noted(
    attacked: ProcessCluster, impostor: Impostor, message, reason: str
) -> None:
    impostor.send(message(impostor))
    attacked.processes[impostor.target].heard("refused", reason=reason)


def test_an_entry_with_a_wrong_checksum_ends_the_connection(impostor: Impostor, attacked: ProcessCluster) -> None:
    entry = encode_entry(SHARD, 1, 1, EntryKind.NOOP, 1, b"")
    frame = encode_peer_frame((AppendEntries(SHARD, impostor.term, impostor.host, impostor.target, 0, 0, 0, (entry,)),))
    place = frame.index(entry.encoded) + 8
    impostor.client.send(frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :])
    assert impostor.client.is_closed()
    attacked.processes[impostor.target].heard("connection-refused", code="invalid_argument")


@pytest.mark.parametrize(
    "said",
    [b"\xde\xad\xbe\xef" * 1000, b"\x00\x00\x00\x00\xff\xff\xff\x1f", encode_request(write(batch([KEY], [b""])))],
    ids=["garbage", "4 GiB", "a client's request"],
)
def test_a_peer_that_cannot_be_read_is_closed(impostor: Impostor, said: bytes) -> None:
    impostor.client.send(said)
    assert impostor.client.is_closed()


@pytest.fixture
def child(attacked: ProcessCluster) -> Iterator[WireClient]:
    """Admitted as a learner that nobody knows."""
    with others_unharmed(attacked, 2), WireClient(attacked.endpoints[2]) as client:
        assert client.say_hello(Hello(role=Role.LEARNER, host=999)).error is None
        yield client


@pytest.mark.parametrize(
    "said",
    [
        b"\xde\xad\xbe\xef" * 1000,
        encode_link_frame((Attach(SHARD, 0, 0, 0, 1),)),
        encode_link_frame((ChildHello(2, "127.0.0.1:1", ()),)),
        encode_request(write(batch([KEY], [b""]))),
    ],
    ids=["garbage", "attached before its hello", "the parent's own id", "a client's request"],
)
def test_a_child_that_breaks_the_rules_is_closed(child: WireClient, said: bytes) -> None:
    child.send(said)
    assert child.is_closed()


def test_a_child_that_acknowledges_what_it_was_never_sent_moves_nothing(child: WireClient) -> None:
    hello, attach = ChildHello(999, "127.0.0.1:1", ()), Attach(SHARD, 0, 0, 0, 1)
    child.send(encode_link_frame((hello, attach, FeedAck(SHARD, 2**63), FeedAck(77, 1))))
    assert not child.is_closed()
