"""What a test of bad input needs: good requests to spoil, and the check that nobody else noticed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shardraft.errors import ErrorCode, ShardraftError
from shardraft.kv.commands import PUT, Batch
from shardraft.kv.requests import (
    ClientReply,
    ClientRequest,
    Consistency,
    ErrorReply,
    ReadReply,
    ReadRequest,
    WriteReply,
    WriteRequest,
)
from shardraft.types import HostId, ShardId
from shardraft.wire.client import CapnpBatchCodec
from shardraft.wire.hello import decode_hello_reply
from tests.process.cluster import ProcessCluster
from tests.process.wire_client import WireClient

GROWTH_BYTES_MAX = 48 << 20
"""What a host may grow by while it is attacked: far less than what it is sent or told to expect."""
SHARD = 1
"""The one under attack; of two shards it holds the lower half of the slots."""
BYSTANDER = b"\x00\x02bystander"
KEY = b"\x00\x01key"
"""Routing keys: a slot, and the user's key."""
KEY_OF_ANOTHER_SHARD = b"\x03\x00key"


def batch(keys: list[bytes], values: list[bytes]) -> Batch:
    """Puts of a session of their own."""
    return Batch(secrets.token_bytes(16), 1, 1, True, False, 1, bytes([PUT]) * len(keys), keys, values)


def write(payload: Batch | bytes, *, shard: ShardId = SHARD, timeout_ms: int = 10_000) -> WriteRequest:
    encoded = payload if isinstance(payload, bytes) else CapnpBatchCodec().encode_batch(payload)
    return WriteRequest(7, shard, 1, timeout_ms, encoded)


def read(
    keys: list[bytes], consistency: Consistency = Consistency.LINEARIZABLE, *, shard: ShardId = SHARD
) -> ReadRequest:
    return ReadRequest(7, shard, 1, 10_000, consistency, keys)


def refusal(client: WireClient, request: ClientRequest) -> ShardraftError:
    """Ask, and be refused with certainty that nothing was applied."""
    error = refused(client.ask(request), request.request_id)
    assert error.applied == "no"
    return error


def refused(reply: ClientReply, request_id: int) -> ShardraftError:
    assert isinstance(reply, ErrorReply), reply
    assert reply.request_id == request_id
    return reply.error


def hello_refusal(client: WireClient) -> tuple[ErrorCode, str]:
    """Why the host refused whatever was said in place of a hello, before it closed."""
    error = decode_hello_reply(client.frame()).error
    assert error is not None
    assert client.is_closed()
    return error.code, error.text


def memory_bytes(pid: int) -> int:
    """What a process holds in memory."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


@contextmanager
def others_unharmed(cluster: ProcessCluster, target: HostId) -> Iterator[None]:
    """Whatever happens inside: all processes live on, ``target`` stays small, no leader changes, others are served."""
    process = cluster.processes[target]
    leader = cluster.leader_of(SHARD)
    term = cluster.shard_status(leader, SHARD).term
    pids = [each.pid for each in cluster.processes.values()]
    memory = memory_bytes(process.pid)
    with WireClient(cluster.endpoints[leader]) as other:
        other.hello()
        yield
        assert all(each.runs for each in cluster.processes.values())
        assert [each.pid for each in cluster.processes.values()] == pids
        assert memory_bytes(process.pid) - memory < GROWTH_BYTES_MAX
        value = secrets.token_bytes(8)
        answer = other.ask(write(batch([BYSTANDER], [value])))
        assert isinstance(answer, WriteReply), answer
        reply = other.ask(read([BYSTANDER]))
        assert isinstance(reply, ReadReply)
        assert reply.values == [value]
    assert cluster.shard_status(leader, SHARD).term == term
    assert not [event for event in process.events if event["event"] == "handler-failed"]
