"""Every value comes back as it went, whatever is in it."""

from __future__ import annotations

from hypothesis import given

from shardraft.host.messages import LinkMessage, PeerMessage
from shardraft.kv.commands import Batch
from shardraft.kv.machine import MachineState
from shardraft.kv.requests import ClientReply, ClientRequest
from shardraft.raft.ready import HardState
from shardraft.shards.shard_map import ShardMap
from shardraft.types import Identity
from shardraft.wire.client import CapnpBatchCodec, decode_reply, decode_request, encode_reply, encode_request
from shardraft.wire.framing import FrameDecoder
from shardraft.wire.hello import Hello, decode_hello, encode_hello
from shardraft.wire.peer import decode_link_frame, decode_peer_frame, encode_link_frame, encode_peer_frame
from shardraft.wire.stored import (
    decode_hard_state,
    decode_identity,
    decode_machine_state,
    decode_shard_map,
    encode_hard_state,
    encode_identity,
    encode_machine_state,
    encode_shard_map,
)
from tests.wire import strategies


def one_frame(encoded: bytes) -> bytes:
    [frame] = FrameDecoder(1 << 20, segments_max=1).feed(encoded)
    return frame


@given(strategies.batches())
def test_a_batch(batch: Batch) -> None:
    codec = CapnpBatchCodec()
    encoded = codec.encode_batch(batch)
    assert codec.decode_batch(one_frame(encoded)) == batch
    assert codec.encode_batch(codec.decode_batch(encoded)) == encoded


@given(strategies.requests)
def test_a_request(request: ClientRequest) -> None:
    assert decode_request(one_frame(encode_request(request))) == request


@given(strategies.replies)
def test_a_reply(reply: ClientReply) -> None:
    assert decode_reply(one_frame(encode_reply(reply))) == reply


@given(strategies.peer_messages)
def test_messages_between_voter_hosts_in_their_order(messages: tuple[PeerMessage, ...]) -> None:
    assert decode_peer_frame(one_frame(encode_peer_frame(messages))) == messages


@given(strategies.link_messages)
def test_messages_of_the_read_tree_in_their_order(messages: tuple[LinkMessage, ...]) -> None:
    assert decode_link_frame(one_frame(encode_link_frame(messages))) == messages


@given(strategies.hellos)
def test_a_hello(hello: Hello) -> None:
    assert decode_hello(encode_hello(hello)) == hello


@given(strategies.machine_states)
def test_the_state_of_a_machine(state: MachineState) -> None:
    assert decode_machine_state(encode_machine_state(state)) == state


@given(strategies.shard_maps)
def test_a_shard_map(shard_map: ShardMap) -> None:
    assert decode_shard_map(encode_shard_map(shard_map)) == shard_map


@given(strategies.u64, strategies.u32, strategies.u64)
def test_a_hard_state(term: int, vote: int, commit: int) -> None:
    hard_state = HardState(term, vote, commit)
    assert decode_hard_state(encode_hard_state(hard_state)) == hard_state


@given(strategies.data, strategies.u32, strategies.u64, strategies.u64)
def test_an_identity(cluster_id: bytes, host: int, incarnation: int, nonce: int) -> None:
    identity = Identity(cluster_id, host, incarnation, nonce)
    assert decode_identity(encode_identity(identity)) == identity
