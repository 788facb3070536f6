"""The parts of the simulated world, each by itself: time, network, codec, oracle, trace."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import attrs
import pytest

from shardraft.config import Limits
from shardraft.errors import InvalidArgument, NotLeader
from shardraft.host.events import PeerFrameReceived, Tick
from shardraft.kv.commands import ABSENT, ANY_REVISION, DELETE, PUT, Batch
from shardraft.raft.entry import EntryKind, encode_entry
from shardraft.raft.messages import AppendEntries, Heartbeat
from shardraft.raft.ready import HardState
from shardraft.shards.shard_map import HostPlace, ShardMap
from shardraft.sim.clock import Agenda, DriftingClock, drawing
from shardraft.sim.codec import PlainCodec
from shardraft.sim.network import LinkQuality, Network, StreamEnd
from shardraft.sim.oracle import ShardOracle
from shardraft.sim.trace import Trace, flatten

SESSION = b"s" * 16
SHARD_MAP = ShardMap.bootstrap(b"c" * 16, (HostPlace(1, "h1:1"),), 1)

# Time.


def test_things_happen_in_the_order_of_their_times_and_then_of_their_making() -> None:
    agenda = Agenda()
    happened: list[Any] = []
    for time_us, name in ((30, "c"), (10, "a"), (30, "d"), (20, "b"), (99, "late")):
        agenda.at(time_us, happened.append, name)
    agenda.run_until(50)
    assert happened == ["a", "b", "c", "d"]
    assert agenda.now_us == 50


def test_what_is_put_on_the_agenda_meanwhile_happens_too() -> None:
    agenda = Agenda()
    happened: list[Any] = []
    agenda.at(10, lambda: agenda.after(5, happened.append, agenda.now_us))
    agenda.run_until(20)
    assert happened == [10]


@pytest.mark.parametrize("between", [(20, 400), (0, 1), (5, 69), (500, 8_000)])
def test_a_draw_takes_the_same_numbers_in_the_same_order_as_randrange(between: tuple[int, int]) -> None:
    one, other = Random(7), Random(7)
    draw = drawing(one, between)
    assert [draw() for _ in range(500)] == [other.randrange(*between) for _ in range(500)]
    assert one.getstate() == other.getstate()


@pytest.mark.parametrize("drift_ppm", [-1_000, 0, 1_000])
def test_a_clock_runs_fast_or_slow_and_tells_when_it_will_show_a_time(drift_ppm: int) -> None:
    agenda = Agenda()
    clock = DriftingClock(agenda, 123_456, drift_ppm)
    agenda.run_until(10_000_000)
    assert clock.now_us() == 123_456 + 10_000_000 + 10 * drift_ppm
    for clock_us in range(clock.now_us() + 7, clock.now_us() + 3_000, 7):
        agenda.run_until(clock.world_us(clock_us) - 1)
        assert clock.now_us() < clock_us
        agenda.run_until(clock.world_us(clock_us))
        assert clock.now_us() >= clock_us


# The network.


def network(seed: int = 1) -> tuple[Agenda, Network]:
    agenda = Agenda()
    return agenda, Network(agenda, Random(seed))


def test_a_good_network_delivers_every_frame_once() -> None:
    agenda, net = network()
    got: list[int] = []
    for number in range(200):
        net.send_frame(1, 2, got.append, number)
    agenda.run_until(10_000)
    assert sorted(got) == list(range(200))
    assert got != list(range(200)), "but not in order"


def test_a_bad_network_loses_and_doubles_frames() -> None:
    agenda, net = network()
    net.quality = LinkQuality(loss=0.2, doubling=0.2, late=0.2)
    got: list[int] = []
    for number in range(1_000):
        net.send_frame(1, 2, got.append, number)
    agenda.run_until(1_000_000)
    assert 700 < len(set(got)) < 900
    assert len(got) > len(set(got)) + 50
    assert net.frames_lost == 1_000 - len(set(got))


def test_a_cut_is_of_one_direction_and_catches_what_is_on_its_way() -> None:
    agenda, net = network()
    got: list[str] = []
    net.send_frame(1, 2, got.append, "on its way")
    net.cut.add((1, 2))
    net.send_frame(1, 2, got.append, "cut")
    net.send_frame(2, 1, got.append, "back")
    agenda.run_until(10_000)
    assert got == ["back"]


class StreamBench:
    """A stream between nodes 1 and 2; what each end hears is kept."""

    def __init__(self, seed: int = 1) -> None:
        self.agenda, self.network = network(seed)
        self.heard: tuple[list[object], list[object]] = ([], [])
        self.stream = self.network.open_stream(self._end(0), self._end(1))

    def _end(self, end: int) -> StreamEnd:
        heard: Callable[[object], None] = self.heard[end].append
        return StreamEnd(end + 1, heard, lambda: heard("closed"))


def test_a_stream_keeps_its_order() -> None:
    bench = StreamBench()
    for number in range(100):
        bench.stream.send(0, number)
    bench.agenda.run_until(100_000)
    assert bench.heard == ([], list(range(100)))


def test_what_was_sent_before_a_close_arrives_before_it() -> None:
    bench = StreamBench()
    bench.stream.send(0, "last")
    bench.stream.close(0)
    bench.stream.send(1, "too late")
    bench.agenda.run_until(100_000)
    assert bench.heard == ([], ["last", "closed"])


def test_a_stream_that_lost_something_never_delivers_anything_after_it() -> None:
    for seed in range(20):
        bench = StreamBench(seed)
        for number in range(50):
            bench.agenda.at(number * 100, bench.stream.send, 0, number)
        bench.agenda.at(2_000, bench.network.cut.add, (1, 2))
        bench.agenda.at(2_000, bench.network.links_changed)
        bench.agenda.at(2_500, bench.network.cut.clear)
        bench.agenda.run_until(3_000_000)
        heard = bench.heard[1]
        assert heard[-1] == "closed"
        assert heard[:-1] == list(range(len(heard) - 1))
        assert len(heard) < 25
        assert bench.heard[0] == ["closed"]


def test_when_a_node_dies_its_streams_close() -> None:
    bench = StreamBench()
    bench.network.node_died(2)
    bench.agenda.run_until(100_000)
    assert bench.heard == (["closed"], [])


# The codec.

BATCHES = (
    Batch(SESSION, 1, 0, True, False, 1, bytes([PUT]), [b"k"], [b"v"]),
    Batch(SESSION, 2**60, 7, False, True, 2**40, bytes([PUT, DELETE]), [b"a", b""], [b"\x00" * 300, b""], [ABSENT, 9]),
    Batch(SESSION, 3, 3, False, False, 1, bytes([DELETE] * 3), [b"a", b"b", b"c"], [b""] * 3, (), [0, 4, 9]),
    Batch(SESSION, 4, 3, False, False, 1, b"", [], []),
)


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_is_decoded_as_it_was_encoded(batch: Batch) -> None:
    def plain(of: Batch) -> tuple[Any, ...]:
        return tuple(list(value) if isinstance(value, list | tuple) else value for value in attrs.astuple(of))

    codec = PlainCodec()
    assert plain(codec.decode_batch(codec.encode_batch(batch))) == plain(batch)


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_that_was_cut_or_lengthened_is_malformed(batch: Batch) -> None:
    codec = PlainCodec()
    encoded = codec.encode_batch(batch)
    for malformed in [encoded[:size] for size in range(len(encoded))] + [encoded + b"x"]:
        with pytest.raises(InvalidArgument):
            codec.decode_batch(malformed)


# The oracle.


class OracleBench:
    """Applies batches of one session to an oracle."""

    def __init__(self) -> None:
        self.oracle = ShardOracle(PlainCodec(), Limits(session_window_max=8))

    def apply(self, sequence: int, *operations: tuple[int, bytes, bytes, int], **fields: Any) -> None:
        kinds, keys, values, conditions = zip(*operations, strict=True)
        opens = fields.pop("opens", True)
        batch = Batch(
            SESSION, sequence, fields.pop("below", 0), opens, fields.pop("atomic", False), 1,
            bytes(kinds), keys, values, conditions, fields.pop("positions", ()),
        )  # fmt: skip
        payload = PlainCodec().encode_batch(batch)
        self.oracle.apply(encode_entry(1, self.oracle.applied_index + 1, 1, EntryKind.BATCH, 0, payload))


def put(key: bytes, value: bytes, condition: int = ANY_REVISION) -> tuple[int, bytes, bytes, int]:
    return PUT, key, value, condition


def test_the_oracle_counts_operations_and_keeps_every_version() -> None:
    bench = OracleBench()
    bench.apply(0, put(b"a", b"1"), put(b"a", b"2"), put(b"b", b"3"))
    bench.apply(1, (DELETE, b"a", b"", ANY_REVISION))
    oracle = bench.oracle
    assert list(oracle.ordered()) == [(b"b", 3, b"3")]
    assert (oracle.at(b"a", 0), oracle.at(b"a", 1), oracle.at(b"a", 2)) == ((0, None), (2, b"2"), (0, None))
    assert oracle.wrote(b"a", 1, b"1")
    assert oracle.wrote(b"a", 4, None)
    assert not oracle.wrote(b"a", 3, None)
    assert sorted(oracle.values()) == [b"1", b"2", b"3"]


def test_the_oracle_applies_an_operation_once_however_it_comes_back() -> None:
    bench = OracleBench()
    bench.apply(1, put(b"a", b"1"), put(b"b", b"2"))
    bench.apply(0, put(b"c", b"3"))
    bench.apply(1, put(b"b", b"2"), put(b"d", b"4"), positions=(1, 2))
    assert list(bench.oracle.ordered()) == [(b"a", 1, b"1"), (b"b", 2, b"2"), (b"c", 3, b"3"), (b"d", 4, b"4")]
    assert bench.oracle.duplicates == 1


def test_the_oracle_refuses_what_the_session_table_must_refuse() -> None:
    bench = OracleBench()
    bench.apply(5, put(b"a", b"1"), opens=False)
    bench.apply(5, put(b"a", b"2"), below=5)
    bench.apply(4, put(b"a", b"3"), below=4)
    bench.apply(13, put(b"a", b"4"), below=5)
    assert list(bench.oracle.ordered()) == [(b"a", 1, b"2")]


def test_the_oracle_applies_an_atomic_batch_whole_or_not_at_all() -> None:
    bench = OracleBench()
    bench.apply(0, put(b"a", b"1"), put(b"b", b"2", 7), atomic=True)
    bench.apply(1, put(b"a", b"3"), put(b"b", b"4", ABSENT), atomic=True)
    assert list(bench.oracle.ordered()) == [(b"a", 3, b"3"), (b"b", 4, b"4")]


# The trace.


def test_equal_records_have_equal_hashes_and_any_difference_shows() -> None:
    def digest(*events: object) -> str:
        trace = Trace()
        for event in events:
            trace.event(5, 1, event)
        return trace.digest()

    entry = encode_entry(1, 1, 1, EntryKind.BATCH, 0, b"x")
    frame = PeerFrameReceived(1, 2, (AppendEntries(1, 1, 1, 2, 0, 0, 0, (entry,)), Heartbeat(1, 1, 1, 2, 0, 1)))
    again = PeerFrameReceived(1, 2, (AppendEntries(1, 1, 1, 2, 0, 0, 0, (entry,)), Heartbeat(1, 1, 1, 2, 0, 1)))
    other_entry = encode_entry(1, 1, 1, EntryKind.BATCH, 0, b"y")
    assert digest(frame, Tick(3)) == digest(again, Tick(3))
    assert len({
        digest(frame, Tick(3)),
        digest(Tick(3), frame),
        digest(frame, Tick(4)),
        digest(PeerFrameReceived(1, 2, (AppendEntries(1, 1, 1, 2, 0, 0, 0, (other_entry,)),)), Tick(3)),
    }) == 4  # fmt: skip


def test_a_record_holds_numbers_and_bytes_whatever_it_is_made_of() -> None:
    assert flatten(HardState(1, 2, 3))[1:] == (1, 2, 3)
    assert flatten([b"k", None, "text", True]) == (b"k", None, b"text", 1)
    assert flatten(NotLeader(applied="unknown")) == (1, b"unknown")
    with pytest.raises(TypeError):
        flatten({1: 2})
