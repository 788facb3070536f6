"""Segments follow each other, are deleted and emptied, and the log is what it was told, through any crash."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import attrs
import pytest

from shardraft.errors import StorageError
from shardraft.host.turn import LogBatch
from shardraft.raft.entry import Entry
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from shardraft.storage import moving, segments
from shardraft.storage.log import SegmentedLog, StoredLog
from shardraft.storage.segment import PlacedBlock, Segment, segment_numbers
from shardraft.types import Identity, Index, ShardId, Term
from tests.contracts.store_world import CLUSTER, HOST, entry

SHARDS = (1, 2, 3, 4)
IDENTITY = Identity(CLUSTER, HOST, 1, 1)


@attrs.frozen
class ModelLog:
    """What one shard's log should be: the entries behind ``base``."""

    base: Index = 0
    base_term: Term = 0
    entries: tuple[Entry, ...] = ()
    hard_state: HardState = attrs.field(factory=HardState)

    @property
    def last(self) -> Index:
        return self.base + len(self.entries)

    @property
    def term(self) -> Term:
        return self.entries[-1].term if self.entries else self.base_term

    def stored(self) -> StoredLog:
        terms = tuple(one.term for one in self.entries)
        sizes = tuple(len(one.encoded) for one in self.entries)
        return StoredLog(self.hard_state, LogSummary(self.base + 1, self.base_term, terms, sizes))


Model = dict[ShardId, ModelLog]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MIN", 2048)
    monkeypatch.setattr(segments, "SEGMENT_BYTES_MAX", 8192)
    monkeypatch.setattr(segments, "HELD_BYTES_SPARE", 6144)
    monkeypatch.setattr(moving, "MOVED_ENTRIES_MAX", 3)
    monkeypatch.setattr(moving, "MOVED_BYTES_MAX", 1024)


@pytest.fixture
def log(tmp_path: Path, small_segments: None) -> Iterator[SegmentedLog]:
    (tmp_path / "log").mkdir()
    SegmentedLog.create(tmp_path / "log", IDENTITY)
    log = SegmentedLog(tmp_path / "log")
    log.recover()
    yield log
    log.close()


def batch(*writes: LogWrite, compactions: tuple[tuple[ShardId, Index, Term], ...] = ()) -> list[LogBatch]:
    return [LogBatch(writes, compactions)]


def fill(log: SegmentedLog, shard: ShardId, first: Index, last: Index, payload_bytes: int = 300) -> None:
    """One entry with each commit."""
    for index in range(first, last + 1):
        log.commit(batch(LogWrite(shard, 0, None, (entry(shard, index, 1, b"x" * payload_bytes),))))


def numbers(log: SegmentedLog) -> list[int]:
    return segment_numbers(log.path)


def again(log: SegmentedLog, tmp_path: Path) -> dict[ShardId, StoredLog]:
    """What a start finds in a copy of the files as they lie there."""
    target = tmp_path / "again"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(log.path, target)
    other = SegmentedLog(target)
    found = other.recover()
    other.close()
    return found


# Segments.


def test_a_full_segment_is_followed_by_another(log: SegmentedLog, tmp_path: Path) -> None:
    fill(log, 1, 1, 20)
    assert len(numbers(log)) > 2
    assert len(again(log, tmp_path)[1].summary.terms) == 20
    for index in range(1, 21):
        assert log.read_entries(1, index, index + 1, 1) == [entry(1, index, 1, b"x" * 300).encoded]


def test_a_block_larger_than_any_segment_gets_one_of_its_own(log: SegmentedLog, tmp_path: Path) -> None:
    large = entry(1, 1, 1, b"x" * 50_000)
    log.commit(batch(LogWrite(1, 0, None, (large,))))
    fill(log, 1, 2, 3)
    assert log.read_entries(1, 1, 2, 1) == [large.encoded]
    assert len(again(log, tmp_path)[1].summary.terms) == 3


def test_segments_grow_with_the_log(log: SegmentedLog) -> None:
    fill(log, 1, 1, 300)
    sizes = [path.stat().st_size for path in sorted(log.path.glob("segment-*"))]
    assert sizes == sorted(sizes)
    assert sizes[0] == 2048
    assert sizes[-1] == 8192


def test_a_segment_is_deleted_once_no_log_needs_it(log: SegmentedLog, tmp_path: Path) -> None:
    fill(log, 1, 1, 30)
    before = numbers(log)
    log.commit(batch(compactions=((1, 30, 1),)))
    fill(log, 1, 31, 31)
    assert not {*before[:-1]} & {*numbers(log)}
    assert again(log, tmp_path)[1].summary.first_index == 31


def test_an_idle_shard_is_known_from_any_segment(log: SegmentedLog, tmp_path: Path) -> None:
    """Its hard state was written once, long ago."""
    log.commit(batch(LogWrite(2, 0, None, (entry(2, 1, 5),), HardState(5, 3, 1)), compactions=((2, 1, 5),)))
    fill(log, 1, 1, 30)
    log.commit(batch(compactions=((1, 30, 1),)))
    fill(log, 1, 31, 32)
    assert numbers(log)[0] > 1
    assert again(log, tmp_path)[2] == StoredLog(HardState(5, 3, 1), LogSummary(2, 5))


def test_a_removed_shard_stays_removed_when_the_segment_that_says_so_is_gone(
    log: SegmentedLog, tmp_path: Path
) -> None:
    fill(log, 2, 1, 3, payload_bytes=10)
    fill(log, 1, 1, 1)
    log.remove(2)
    fill(log, 1, 2, 60)
    log.commit(batch(compactions=((1, 40, 1),)))
    fill(log, 1, 61, 62)
    assert 2 not in again(log, tmp_path)


def test_what_little_a_shard_wrote_is_moved_so_that_segments_can_be_deleted(log: SegmentedLog, tmp_path: Path) -> None:
    for index in range(1, 201):
        write = LogWrite(1, 0, None, (entry(1, index, 1, b"x" * 300),))
        cold = (LogWrite(2, 0, None, (entry(2, index // 20, 1, b"y"),)),) if index % 20 == 0 else ()
        log.commit(batch(write, *cold, compactions=((1, index - 5, 1),) if index > 5 else ()))
    held = sum(path.stat().st_size for path in log.path.glob("segment-*"))
    assert held <= 2 * 3000 + 6144 + 3 * 2048
    assert numbers(log)[0] > 10
    assert len(again(log, tmp_path)[2].summary.terms) == 10
    assert log.read_entries(2, 1, 11, 1 << 20) == [entry(2, index, 1, b"y").encoded for index in range(1, 11)]


def test_a_start_in_the_middle_of_moving_goes_on_with_it(log: SegmentedLog, tmp_path: Path) -> None:
    for index in range(1, 41):
        fill(log, 2, index, index, payload_bytes=10)
        fill(log, 1, index, index)
    for index in range(1, 61):
        compactions = ((1, index, 1),) if index <= 40 else ()
        log.commit(batch(LogWrite(1, 0, None, (), HardState(1, 1, index)), compactions=compactions))
        assert len(log.recover()[2].summary.terms) == 40
    assert numbers(log)[0] > 3
    assert log.read_entries(2, 1, 41, 1 << 20) == [entry(2, n, 1, b"x" * 10).encoded for n in range(1, 41)]


def test_a_segment_is_called_gone_once_however_many_blocks_are_under_way(log: SegmentedLog, tmp_path: Path) -> None:
    fill(log, 1, 1, 20)
    first = numbers(log)[0]

    def begin(index: Index) -> PlacedBlock:
        placed = log.begin_commit(batch(compactions=((1, index, 1),)))
        assert placed is not None
        placed.segment.write(placed)
        return placed

    under_way = [begin(10), begin(11)]
    assert log.end_commit(under_way.pop(0)) is None
    under_way.append(begin(12))
    assert first in under_way[-1].gone
    under_way.append(begin(13))
    assert log.end_commit(under_way.pop(0)) is None
    under_way.append(begin(14))
    assert first not in under_way[-1].gone
    assert first in numbers(log)
    removals = [log.end_commit(block) for block in under_way]
    for remove in removals:
        if remove is not None:
            remove()
    assert first not in numbers(log)
    assert again(log, tmp_path)[1].summary.first_index == 15


# What is missing.


@pytest.mark.parametrize("lost", [0, 1, -1])
def test_a_segment_that_is_missing_is_noticed(log: SegmentedLog, lost: int) -> None:
    fill(log, 1, 1, 20)
    path = sorted(log.path.glob("segment-*"))[lost]
    path.unlink()
    with pytest.raises(StorageError, match=f"{path} is missing, the log of this host needs it"):
        log.recover()


def test_damage_at_the_end_of_an_older_segment_is_never_taken_for_a_torn_block(log: SegmentedLog) -> None:
    fill(log, 1, 1, 20)
    path = sorted(log.path.glob("segment-*"))[0]
    content = path.read_bytes()
    end = len(content.rstrip(b"\0"))
    in_the_seal = content[: end - 1] + bytes([content[end - 1] ^ 1]) + content[end:]
    without_a_block = content[: end - 400] + bytes(len(content) - end + 400)
    for damaged in (in_the_seal, without_a_block, content[:900]):
        path.write_bytes(damaged)
        with pytest.raises(StorageError, match=f"{path}"):
            log.recover()


# Everything at once.


class Crashes:
    """Keeps what the files were after any step of writing, as a crash there would leave them."""

    def __init__(self, directory: Path, target: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._target = target
        self._random = random
        self._kept: list[Path] = []
        self._is_watching = False
        for name in ("_write", "remove"):
            patch.setattr(Segment, name, self._followed(getattr(Segment, name)))
        patch.setattr(Segment, "create", self._followed(Segment.create))

    def _followed(self, step: Callable[..., object]) -> Callable[..., object]:
        def followed(*arguments: object) -> object:
            result = step(*arguments)
            if self._is_watching and self._random.random() < 0.5:
                self._kept.append(self._target / f"crash-{len(self._kept)}")
                shutil.copytree(self._directory, self._kept[-1])
            return result

        return followed

    @contextmanager
    def met(self) -> Iterator[list[Path]]:
        """The copies that are made while the block runs; the caller deletes them."""
        self._kept = []
        self._is_watching = True
        yield self._kept
        self._is_watching = False


def change(random: Random, model: Model, log: SegmentedLog) -> list[Model]:
    """Do one thing to the log, and what it means to the model: what a crash may leave of it, all of it at last."""
    shard = random.choice(SHARDS)
    kind = random.random()
    if kind < 0.03 and shard in model:
        log.remove(shard)
        return [{other: its for other, its in model.items() if other != shard}]
    if kind < 0.07:
        its = model.get(shard, ModelLog())
        index, term = random.randint(max(0, its.last - 8), its.last + 8), its.term + random.randint(0, 1)
        hard_state = log.reset(shard, index, term)
        return [model | {shard: ModelLog(index, term, (), hard_state)}]
    if kind < 0.5:
        return several_blocks(random, model, log)
    batches, model = some_batches(random, model)
    log.commit(batches)
    return [model]


def some_batches(random: Random, model: Model) -> tuple[list[LogBatch], Model]:
    batches = []
    for _ in range(random.randint(1, 3)):
        made, model = one_batch(random, model)
        batches.append(made)
    return batches, model


def several_blocks(random: Random, model: Model, log: SegmentedLog) -> list[Model]:
    """Blocks that are under way together and written in any order."""
    placed: list[PlacedBlock] = []
    models: list[Model] = []
    for _ in range(random.randint(1, 5)):
        batches, following = some_batches(random, model)
        begun = log.begin_commit(batches)
        if begun is None:
            if not placed:
                log.commit(batches)
                models.append(following)
            break
        placed.append(begun)
        model = following
        models.append(model)
    for block in random.sample(placed, len(placed)):
        block.segment.write(block)
    for block in placed:
        if (rest := log.end_commit(block)) is not None:
            rest()
    return models


def one_batch(random: Random, model: Model) -> tuple[LogBatch, Model]:
    writes: list[LogWrite] = []
    compactions: list[tuple[ShardId, Index, Term]] = []
    for shard in random.sample(SHARDS, random.randint(1, len(SHARDS))):
        if shard == SHARDS[-1] and random.random() < 0.9:
            continue  # One that writes little.
        its = model.get(shard, ModelLog())
        truncate_from, term = None, max(its.term, 1)
        if its.entries and random.random() < 0.1:
            truncate_from, term = random.randint(its.base + 1, its.last), term + 1
            its = attrs.evolve(its, entries=its.entries[: truncate_from - its.base - 1])
        count = random.choice((0, 1, 1, 1, 5))
        added = tuple(
            entry(shard, its.last + n, term, random.randbytes(random.choice((5, 60, 400)))) for n in range(1, count + 1)
        )
        hard_state = HardState(term, random.randint(1, 3), its.base) if random.random() < 0.5 else None
        writes.append(LogWrite(shard, 0, truncate_from, added, hard_state))
        its = attrs.evolve(its, entries=its.entries + added, hard_state=hard_state or its.hard_state)
        if its.entries and random.random() < 0.25 and shard != SHARDS[-1]:
            index = random.randint(its.base + 1, its.last)
            base_term = its.entries[index - its.base - 1].term
            compactions.append((shard, index, base_term))
            its = attrs.evolve(its, base=index, base_term=base_term, entries=its.entries[index - its.base :])
        if its != ModelLog() or shard in model:
            model = model | {shard: its}
    return LogBatch(tuple(writes), tuple(compactions)), model


def stored(model: Model) -> dict[ShardId, StoredLog]:
    return {shard: its.stored() for shard, its in model.items()}


def check_reads(log: SegmentedLog, model: Model) -> None:
    for shard, its in model.items():
        if its.entries:
            found = log.read_entries(shard, its.base + 1, its.last + 1, 1 << 30)
            assert found == [one.encoded for one in its.entries]


@pytest.mark.parametrize("seed", range(12))
def test_a_log_is_what_it_was_told_through_any_crash(
    log: SegmentedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    crashes = Crashes(log.path, tmp_path, random, monkeypatch)
    model: Model = {}
    for step in range(80):
        with crashes.met() as met:
            passed = [model, *change(random, model, log)]
        model = passed[-1]
        check_reads(log, model)
        for directory in met:
            crashed = SegmentedLog(directory)
            found = crashed.recover()
            possible = [one for one in passed if found == stored(one)]
            assert possible, f"step {step}"
            check_reads(crashed, possible[0])
            crashed.close()
            shutil.rmtree(directory)
        if random.random() < 0.1:
            assert log.recover() == stored(model)
            check_reads(log, model)
    assert numbers(log)[-1] > 5, "many segments were met"
    assert numbers(log)[0] > 1, "and deleted"
