"""The contract of the ``Store`` port: the log, and how log and state are brought together at start."""

from __future__ import annotations

import pytest

from shardraft.errors import StorageError
from shardraft.host.ports import Store
from shardraft.host.turn import LogBatch
from shardraft.raft.ready import HardState, LogSummary, LogWrite
from tests.contracts.store_world import (
    StoreStories,
    StoreWorld,
    append,
    compact,
    encoded,
    entries,
    entry,
    flush,
    read,
    recovered,
    started,
    state_at,
)


class StoreLogContract(StoreStories):
    """A part of ``StoreContract``."""

    # The log.

    def test_appended_entries_are_read_back_as_they_were_encoded(self, store: Store) -> None:
        some = entries(1, 1, 5)
        append(store, LogWrite(1, 0, entries=some))
        assert read(store, 1, 1, 6) == encoded(some)
        assert read(store, 1, 2, 4) == encoded(some[1:3])

    def test_a_read_stops_before_it_exceeds_its_bytes_but_gives_at_least_one_entry(self, store: Store) -> None:
        some = entries(1, 1, 5)
        append(store, LogWrite(1, 0, entries=some))
        size = len(some[0].encoded)
        assert read(store, 1, 1, 6, bytes_max=2 * size) == encoded(some[:2])
        assert read(store, 1, 1, 6, bytes_max=3 * size - 1) == encoded(some[:2])
        assert read(store, 1, 3, 6, bytes_max=1) == encoded(some[2:3])

    def test_an_entry_beyond_the_end_cannot_be_read(self, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 2)))
        with pytest.raises(StorageError):
            read(store, 1, 3, 4)

    def test_the_logs_of_two_shards_are_two_logs(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 3)), LogWrite(2, 0, entries=entries(2, 1, 2, term=4)))
        append(store, LogWrite(1, 0, truncate_from=2))
        again = started(world.crash(store))
        assert recovered(again, 1).log.terms == (1,)
        assert recovered(again, 2).log.terms == (4, 4)
        assert read(again, 2, 1, 3) == encoded(entries(2, 1, 2, term=4))

    def test_a_committed_log_survives_a_crash_with_its_terms_and_sizes(self, world: StoreWorld, store: Store) -> None:
        some = (entry(1, 1, 1, b""), entry(1, 2, 1, b"x" * 9000), entry(1, 3, 4))
        append(store, LogWrite(1, 0, entries=some))
        again = started(world.crash(store))
        assert recovered(again, 1).log == LogSummary(1, 0, (1, 1, 4), tuple(len(one.encoded) for one in some))
        assert read(again, 1, 1, 4) == encoded(some)

    def test_a_write_truncates_before_it_appends(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 5)))
        append(store, LogWrite(1, 1, truncate_from=3, entries=entries(1, 3, 3, term=2)))
        again = started(world.crash(store))
        assert recovered(again, 1).log.terms == (1, 1, 2)
        assert read(again, 1, 3, 4) == encoded(entries(1, 3, 3, term=2))

    def test_a_truncation_alone_ends_the_log_earlier(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 5)))
        append(store, LogWrite(1, 1, truncate_from=1))
        assert recovered(world.crash(store), 1).log == LogSummary()

    def test_batches_of_one_commit_take_effect_in_order(self, world: StoreWorld, store: Store) -> None:
        """The second overwrites what the first appended, the third follows the second."""
        store.commit_log(
            [
                LogBatch((LogWrite(1, 0, None, entries(1, 1, 4), HardState(1, 1, 0)),)),
                LogBatch((LogWrite(1, 1, 2, entries(1, 2, 3, term=2), HardState(2, 2, 1)),)),
                LogBatch((LogWrite(1, 1, None, entries(1, 4, 4, term=2)),)),
            ]
        )
        again = started(world.crash(store))
        found = recovered(again, 1)
        assert found.log.terms == (1, 2, 2, 2)
        assert found.hard_state == HardState(2, 2, 1)
        assert read(again, 1, 1, 5) == encoded((entry(1, 1), *entries(1, 2, 4, term=2)))

    def test_a_hard_state_is_kept_with_or_without_entries_beside_it(self, world: StoreWorld, store: Store) -> None:
        append(
            store, LogWrite(1, 0, None, entries(1, 1, 3), HardState(3, 2, 2)), LogWrite(2, 0, None, (), HardState(9, 1))
        )
        again = started(world.crash(store))
        assert recovered(again, 1).hard_state == HardState(3, 2, 2)
        assert recovered(again, 2).hard_state == HardState(9, 1, 0)
        append(again, LogWrite(1, 0, None, (), HardState(4, 0, 3)))
        assert recovered(world.crash(again), 1).hard_state == HardState(4, 0, 3)

    # Compaction.

    def test_compaction_drops_entries_up_to_its_index_and_remembers_the_term_there(
        self, world: StoreWorld, store: Store
    ) -> None:
        append(store, LogWrite(1, 0, entries=(*entries(1, 1, 3), *entries(1, 4, 6, term=2))))
        flush(store, state_at(1, 4, 2), {})
        compact(store, 1, 4, 2)
        with pytest.raises(StorageError):
            read(store, 1, 4, 5)
        assert read(store, 1, 5, 7) == encoded(entries(1, 5, 6, term=2))
        again = started(world.crash(store))
        found = recovered(again, 1).log
        assert (found.first_index, found.previous_term, found.terms) == (5, 2, (2, 2))
        with pytest.raises(StorageError):
            read(again, 1, 1, 5)

    def test_a_log_compacted_to_its_end_goes_on_from_there(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 3)))
        flush(store, state_at(1, 3), {})
        compact(store, 1, 3)
        append(store, LogWrite(1, 0, entries=entries(1, 4, 4, term=2)))
        found = recovered(world.crash(store), 1).log
        assert (found.first_index, found.previous_term, found.terms) == (4, 1, (2,))

    def test_compacting_what_is_compacted_changes_nothing(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 6)))
        flush(store, state_at(1, 4), {})
        compact(store, 1, 4)
        compact(store, 1, 2)
        compact(store, 1, 4)
        assert recovered(world.crash(store), 1).log.first_index == 5

    def test_compacting_one_shard_leaves_the_others(self, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 3)), LogWrite(2, 0, entries=entries(2, 1, 3)))
        flush(store, state_at(1, 3), {})
        compact(store, 1, 3)
        assert read(store, 2, 1, 4) == encoded(entries(2, 1, 3))

    def test_one_commit_may_append_and_compact(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, entries=entries(1, 1, 3)))
        flush(store, state_at(1, 3), {})
        store.commit_log([LogBatch((LogWrite(1, 0, entries=entries(1, 4, 5)),), ((1, 3, 1),))])
        found = recovered(world.crash(store), 1).log
        assert (found.first_index, found.terms) == (4, (1, 1))

    def test_resetting_a_log_drops_all_its_entries(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, None, entries(1, 1, 9), HardState(2, 1, 4)))
        flush(store, state_at(1, 6, 2), {})
        store.reset_log(1, 6, 2)
        with pytest.raises(StorageError):
            read(store, 1, 6, 7)
        with pytest.raises(StorageError):
            read(store, 1, 7, 8)
        found = recovered(world.crash(store), 1)
        assert found.log == LogSummary(7, 2)
        assert found.hard_state == HardState(2, 1, 6)

    # Log and state together.

    def test_a_state_behind_its_log_is_replayed_from_it(self, world: StoreWorld, store: Store) -> None:
        append(store, LogWrite(1, 0, None, entries(1, 1, 6), HardState(1, 1, 5)))
        flush(store, state_at(1, 3), {})
        found = recovered(world.crash(store), 1)
        assert found.state.last_applied == 3
        assert found.log.terms == (1,) * 6
        assert found.hard_state == HardState(1, 1, 5)

    def test_a_log_that_ends_below_the_state_is_reset_there_with_its_hard_state_kept(
        self, world: StoreWorld, store: Store
    ) -> None:
        append(store, LogWrite(1, 0, None, entries(1, 1, 4), HardState(3, 2, 4)))
        flush(store, state_at(1, 9, term=2), {})
        again = world.crash(store)
        found = recovered(again, 1)
        assert found.log == LogSummary(10, 2)
        assert found.hard_state == HardState(3, 2, 9)
        append(again, LogWrite(1, 0, entries=entries(1, 10, 11, term=3)))
        assert recovered(world.crash(again), 1).log.terms == (3, 3)

    def test_a_log_with_another_term_at_the_states_last_entry_is_reset_there(
        self, world: StoreWorld, store: Store
    ) -> None:
        append(store, LogWrite(1, 0, None, entries(1, 1, 8), HardState(4, 1, 2)))
        flush(store, state_at(1, 5, term=3), {})
        found = recovered(world.crash(store), 1)
        assert found.log == LogSummary(6, 3)
        assert found.hard_state == HardState(4, 1, 5)

    def test_a_log_that_begins_above_the_states_end_is_refused(self, world: StoreWorld, store: Store) -> None:
        """Compaction never passes the flushed state; if the disk says otherwise, part of it is an older copy."""
        append(store, LogWrite(1, 0, None, entries(1, 1, 8), HardState(1, 1, 8)))
        compact(store, 1, 6)
        again = world.crash(store)
        with pytest.raises(StorageError):
            again.recover()
