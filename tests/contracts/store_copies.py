"""The contract of the ``Store`` port: copies of a shard's state, sent and received."""

from __future__ import annotations

import pytest

from shardraft.errors import CopyRefused
from shardraft.host.making import first_state
from shardraft.host.ports import RecoveredShard, Store
from shardraft.kv.commands import Stored
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from shardraft.types import Index, Term
from tests.contracts.store_world import (
    CHUNK_BYTES,
    SESSIONS,
    SHARD_MAP,
    StoreStories,
    StoreWorld,
    append,
    encoded,
    entries,
    flush,
    read,
    recovered,
    send_copy,
    started,
    state_at,
)


class StoreCopiesContract(StoreStories):
    """A part of ``StoreContract``."""

    @pytest.fixture
    def filled(self, store: Store) -> Store:
        """Shard 1 at (40, 3) with 100 keys of 300 bytes, sessions, and its log; shard 2 with one key."""
        append(store, LogWrite(1, 0, None, entries(1, 1, 40, term=3), HardState(3, 1, 40)))
        changes: dict[bytes, Stored | None] = {b"%03d" % n: Stored(n + 1, b"%d" % n * 150) for n in range(100)}
        flush(store, state_at(1, 40, 3, SESSIONS), changes)
        flush(store, state_at(2, 0, 0), {b"z": Stored(1, b"other")}, number=2)
        return store

    @pytest.fixture
    def target(self, world: StoreWorld) -> Store:
        """Another store, whose shard 1 is at (2, 1) and has keys of its own."""
        target = world.make_store()
        target.save_shard_map(SHARD_MAP)
        started(target)
        append(
            target, LogWrite(1, 0, None, entries(1, 1, 3), HardState(5, 2, 2)), LogWrite(2, 0, entries=entries(2, 1, 2))
        )
        flush(target, state_at(1, 2), {b"000": Stored(9, b"old"), b"old": Stored(8, b"old")})
        flush(target, state_at(2, 0, 0), {b"y": Stored(1, b"stays")}, number=2)
        return target

    def test_a_copy_takes_the_place_of_the_whole_state(self, world: StoreWorld, filled: Store, target: Store) -> None:
        index, term = send_copy(filled, 1, target)
        assert (index, term) == (40, 3)
        assert target.install_copy(1, index, term) == state_at(1, 40, 3, SESSIONS)
        target.reset_log(1, index, term)
        again = started(world.crash(target))
        assert recovered(again, 1) == RecoveredShard(
            1, HardState(5, 2, 40), LogSummary(41, 3), state_at(1, 40, 3, SESSIONS), 1
        )
        assert again.scan(1, b"", b"", 1000) == filled.scan(1, b"", b"", 1000)
        assert again.get(1, b"old") is None

    def test_installing_one_shard_leaves_the_others(self, filled: Store, target: Store) -> None:
        target.install_copy(1, *send_copy(filled, 1, target))
        target.reset_log(1, 40, 3)
        assert target.get(2, b"y") == Stored(1, b"stays")
        assert read(target, 2, 1, 3) == encoded(entries(2, 1, 2))

    def test_the_log_goes_on_behind_an_installed_copy(self, world: StoreWorld, filled: Store, target: Store) -> None:
        target.install_copy(1, *send_copy(filled, 1, target))
        target.reset_log(1, 40, 3)
        append(target, LogWrite(1, 1, entries=entries(1, 41, 42, term=5)))
        assert read(target, 1, 41, 43) == encoded(entries(1, 41, 42, term=5))
        assert recovered(world.crash(target), 1).log.terms == (5, 5)

    def test_a_crash_between_the_halves_of_an_install_is_repaired_at_start(
        self, world: StoreWorld, filled: Store, target: Store
    ) -> None:
        """State first, then the log (PROTOCOL): the log still ends at 3 and the state is at 40."""
        target.install_copy(1, *send_copy(filled, 1, target))
        again = started(world.crash(target))
        found = recovered(again, 1)
        assert found.state == state_at(1, 40, 3, SESSIONS)
        assert found.log == LogSummary(41, 3)
        assert found.hard_state == HardState(5, 2, 40)

    def test_a_copy_is_of_the_moment_when_it_was_spooled(self, filled: Store, target: Store) -> None:
        index, term, chunks = filled.spool_copy(1, 1)
        flush(filled, state_at(1, 41, 3), {b"000": Stored(99, b"later"), b"later": Stored(99, b"later")}, number=3)
        for number in range(chunks):
            target.stage_chunk(1, number, filled.read_chunk(1, number))
        assert target.install_copy(1, index, term).last_applied == 40
        assert target.get(1, b"000") == Stored(1, b"0" * 150)
        assert target.get(1, b"later") is None

    def test_a_copy_has_many_chunks_of_about_the_size_that_was_asked_for(self, filled: Store) -> None:
        _, _, chunks = filled.spool_copy(1, 1)
        sizes = [len(filled.read_chunk(1, number)) for number in range(chunks)]
        assert chunks >= 5
        assert max(sizes) < 2 * CHUNK_BYTES

    def test_an_empty_shard_can_be_copied(self, world: StoreWorld, store: Store, target: Store) -> None:
        assert send_copy(store, 1, target) == (0, 0)
        assert target.install_copy(1, 0, 0) == first_state(SHARD_MAP.shards[0], 1)
        assert target.scan(1, b"", b"", 10) == []

    def test_a_copy_that_was_installed_can_be_copied_on(self, world: StoreWorld, filled: Store, target: Store) -> None:
        target.install_copy(1, *send_copy(filled, 1, target))
        third = started(world.make_store())
        third.install_copy(1, *send_copy(target, 1, third))
        assert third.scan(1, b"", b"", 1000) == filled.scan(1, b"", b"", 1000)

    def test_two_copies_of_one_shard_may_be_sent_at_once(self, filled: Store, target: Store) -> None:
        first = filled.spool_copy(1, 1)
        flush(filled, state_at(1, 41, 3), {b"000": Stored(99, b"later")}, number=3)
        second = filled.spool_copy(1, 2)
        assert (first[0], second[0]) == (40, 41)
        filled.drop_copy(1)
        for number in range(second[2]):
            target.stage_chunk(1, number, filled.read_chunk(2, number))
        target.install_copy(1, 41, 3)
        assert target.get(1, b"000") == Stored(99, b"later")

    def test_staging_begins_anew_with_chunk_zero(self, filled: Store, target: Store) -> None:
        index, term, chunks = filled.spool_copy(1, 1)
        for number in (0, 1, 2):
            target.stage_chunk(1, number, filled.read_chunk(1, number))
        for number in range(chunks):
            target.stage_chunk(1, number, filled.read_chunk(1, number))
        assert target.install_copy(1, index, term).last_applied == 40

    def assert_unchanged(self, world: StoreWorld, target: Store) -> None:
        again = started(world.crash(target))
        assert recovered(again, 1).state == state_at(1, 2)
        assert again.scan(1, b"", b"", 10) == [(b"000", Stored(9, b"old")), (b"old", Stored(8, b"old"))]

    def test_a_copy_without_its_last_chunk_is_refused(self, world: StoreWorld, filled: Store, target: Store) -> None:
        index, term, chunks = filled.spool_copy(1, 1)
        for number in range(chunks - 1):
            target.stage_chunk(1, number, filled.read_chunk(1, number))
        with pytest.raises(CopyRefused):
            target.install_copy(1, index, term)
        self.assert_unchanged(world, target)

    @pytest.mark.parametrize("number", [1, 3])
    def test_a_chunk_out_of_order_is_refused(
        self, world: StoreWorld, filled: Store, target: Store, number: int
    ) -> None:
        """1 comes twice, 3 comes where 2 is due."""
        filled.spool_copy(1, 1)
        for before in (0, 1):
            target.stage_chunk(1, before, filled.read_chunk(1, before))
        with pytest.raises(CopyRefused):
            target.stage_chunk(1, number, filled.read_chunk(1, number))
        self.assert_unchanged(world, target)

    def test_a_chunk_under_another_number_is_refused(self, filled: Store, target: Store) -> None:
        filled.spool_copy(1, 1)
        target.stage_chunk(1, 0, filled.read_chunk(1, 0))
        with pytest.raises(CopyRefused):
            target.stage_chunk(1, 1, filled.read_chunk(1, 2))

    @pytest.mark.parametrize("number", [0, 1])
    @pytest.mark.parametrize("at", [0, 9, -1])
    def test_a_chunk_with_a_flipped_bit_is_refused(
        self, world: StoreWorld, filled: Store, target: Store, number: int, at: int
    ) -> None:
        filled.spool_copy(1, 1)
        if number == 1:
            target.stage_chunk(1, 0, filled.read_chunk(1, 0))
        chunk = bytearray(filled.read_chunk(1, number))
        chunk[at] ^= 1
        with pytest.raises(CopyRefused):
            target.stage_chunk(1, number, bytes(chunk))
        self.assert_unchanged(world, target)

    @pytest.mark.parametrize("size", [0, 3, 40])
    def test_a_short_chunk_is_refused(self, filled: Store, target: Store, size: int) -> None:
        filled.spool_copy(1, 1)
        target.stage_chunk(1, 0, filled.read_chunk(1, 0))
        with pytest.raises(CopyRefused):
            target.stage_chunk(1, 1, filled.read_chunk(1, 1)[:size])

    def test_chunks_of_two_copies_do_not_make_one(self, world: StoreWorld, filled: Store, target: Store) -> None:
        index, term, chunks = filled.spool_copy(1, 1)
        flush(filled, state_at(1, 41, 3), {b"099": Stored(99, b"x" * 300)}, number=3)
        filled.spool_copy(1, 2)
        with pytest.raises(CopyRefused):  # noqa: PT012 - the mixture may be noticed at the chunk or at the end.
            for number in range(chunks):
                target.stage_chunk(1, number, filled.read_chunk(1 if number < chunks - 1 else 2, number))
            target.install_copy(1, index, term)
        self.assert_unchanged(world, target)

    @pytest.mark.parametrize(("index", "term"), [(39, 3), (41, 3), (40, 2)])
    def test_a_copy_of_another_index_or_term_than_announced_is_refused(
        self, world: StoreWorld, filled: Store, target: Store, index: Index, term: Term
    ) -> None:
        send_copy(filled, 1, target)
        with pytest.raises(CopyRefused):
            target.install_copy(1, index, term)
        self.assert_unchanged(world, target)

    def test_a_copy_of_another_shard_is_refused(self, world: StoreWorld, filled: Store, target: Store) -> None:
        index, term, chunks = filled.spool_copy(2, 1)
        with pytest.raises(CopyRefused):  # noqa: PT012 - it may be noticed at the first chunk or at the end.
            for number in range(chunks):
                target.stage_chunk(1, number, filled.read_chunk(1, number))
            target.install_copy(1, index, term)
        self.assert_unchanged(world, target)

    def test_what_was_staged_does_not_outlive_a_crash(self, world: StoreWorld, filled: Store, target: Store) -> None:
        index, term = send_copy(filled, 1, target)
        again = started(world.crash(target))
        with pytest.raises(CopyRefused):
            again.install_copy(1, index, term)

    def test_a_refused_copy_must_come_anew_from_its_first_chunk(self, filled: Store, target: Store) -> None:
        _, _, chunks = filled.spool_copy(1, 1)
        for number in range(chunks - 1):
            target.stage_chunk(1, number, filled.read_chunk(1, number))
        with pytest.raises(CopyRefused):
            target.stage_chunk(1, chunks - 1, b"garbage")
        with pytest.raises(CopyRefused):
            target.stage_chunk(1, chunks - 1, filled.read_chunk(1, chunks - 1))
        target.install_copy(1, *send_copy(filled, 1, target, copy_id=2))
        assert target.get(1, b"099") == filled.get(1, b"099")
