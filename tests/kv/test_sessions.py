"""Exactly once: the session table as PROTOCOL has it ("Operations, sessions, revisions")."""

from __future__ import annotations

import attrs
import pytest

from shardraft.config import Limits
from shardraft.kv.commands import Batch, BatchResult, Outcome, Refusal, Stored
from shardraft.kv.sessions import SessionRecord
from shardraft.shards.keyspace import KeyRange
from tests.kv.replica import OTHER_SESSION, SESSION, Replica, batch_of, delete, outcomes_of, put

WRITTEN, DELETED, MISSING = Outcome.WRITTEN, Outcome.DELETED, Outcome.MISSING
CONFLICT, WRONG_SHARD, ABORTED = Outcome.CONFLICT, Outcome.WRONG_SHARD, Outcome.ABORTED
WINDOW = 4
IDLE_MS = 100
HOUR_US = 3_600_000_000


@pytest.fixture
def replica() -> Replica:
    limits = Limits(session_window_max=WINDOW, sessions_max=3, session_idle_ms_min=IDLE_MS, deadline_ms_max=IDLE_MS - 1)
    return Replica(limits)


# Retries.


def test_a_retry_gets_the_first_result_again_and_does_not_apply(replica: Replica) -> None:
    batch = batch_of(put(b"k", if_absent=True), put(b"k", if_absent=True))
    first = replica.apply(batch)
    replica.write(put(b"k", b"somebody else's"), session=OTHER_SESSION)
    before = replica.machine.revision
    assert replica.apply(batch) == first == BatchResult(1, bytes([WRITTEN, CONFLICT]), (1,))
    assert replica.machine.revision == before
    assert replica.machine.get(b"k") == Stored(3, b"somebody else's")


def test_a_retry_is_answered_by_its_sequence_whatever_the_order_of_arrival(replica: Replica) -> None:
    """17 is refused on its way, 18 is applied, 17 is retried and must apply: highest-seen is not enough."""
    sequence_18 = batch_of(put(b"eighteen"), sequence=18, answered_below=17)
    sequence_17 = batch_of(put(b"seventeen"), sequence=17, answered_below=17)
    assert replica.apply(sequence_18) == BatchResult(1, bytes([WRITTEN]))
    assert replica.apply(sequence_17) == BatchResult(2, bytes([WRITTEN]))
    assert replica.apply(sequence_18) == BatchResult(1, bytes([WRITTEN]))
    assert set(replica.everything()) == {b"seventeen", b"eighteen"}


def test_sequences_of_different_sessions_have_nothing_to_do_with_each_other(replica: Replica) -> None:
    replica.write(put(b"k", b"one"))
    assert replica.write(put(b"k", b"two"), session=OTHER_SESSION).first_revision == 2


def test_a_failed_atomic_batch_stays_failed(replica: Replica) -> None:
    replica.write(put(b"k"))
    batch = batch_of(put(b"k", if_absent=True), put(b"other"), sequence=1, atomic=True)
    first = replica.apply(batch)
    replica.write(delete(b"k"), sequence=2)
    assert replica.apply(batch) == first
    assert outcomes_of(first) == [CONFLICT, ABORTED]
    assert replica.everything() == {}


# Opening and ending.


def test_a_session_is_opened_by_a_batch_that_says_so(replica: Replica) -> None:
    assert replica.apply(batch_of(put(b"k"), opens_session=False)) is Refusal.SESSION_EXPIRED
    assert replica.everything() == {}
    replica.write(put(b"k"), opens_session=True)
    replica.write(put(b"l"), opens_session=False, sequence=1)
    assert replica.machine.session_count == 1


def test_the_flag_may_stand_on_many_batches(replica: Replica) -> None:
    first = replica.write(put(b"k"), opens_session=True)
    replica.write(put(b"l"), opens_session=True, sequence=1)
    assert replica.apply(batch_of(put(b"k"), opens_session=True)) == first


def test_a_shard_holds_at_most_sessions_max(replica: Replica) -> None:
    for number in range(3):
        replica.write(put(b"k"), session=bytes([number]) * 16)
    before = replica.machine.revision
    assert replica.apply(batch_of(put(b"k"), session=b"one too many....")) is Refusal.SESSIONS_FULL
    assert replica.machine.revision == before
    replica.write(put(b"k"), session=bytes(16), sequence=1)
    replica.time_us = 10
    replica.expire(10)
    replica.write(put(b"k"), session=b"one too many....")


def test_a_full_table_makes_room_for_a_new_session_by_ending_the_one_used_longest_ago(replica: Replica) -> None:
    for number in range(3):
        replica.time_us = number
        replica.write(put(b"k"), session=bytes([number]) * 16)
    replica.time_us = 3
    replica.write(put(b"k"), session=bytes([0]) * 16, sequence=1)
    replica.time_us = 1 + 1000 * IDLE_MS
    assert replica.apply(batch_of(put(b"k"), session=b"not idle enough.")) is Refusal.SESSIONS_FULL
    replica.time_us += 1
    replica.write(put(b"k"), session=b"one too many....")
    assert replica.machine.session_count == 3
    replica.write(put(b"k"), session=bytes([0]) * 16, sequence=2, opens_session=False)
    late = batch_of(put(b"k"), session=bytes([1]) * 16, sequence=1, opens_session=False)
    assert replica.apply(late) is Refusal.SESSION_EXPIRED


def test_sessions_used_at_the_same_moment_make_room_in_the_same_order_after_a_restart(replica: Replica) -> None:
    """Replicas that applied every entry, and one that began from a snapshot, must end the same session."""
    for number in (2, 0, 1):
        replica.write(put(b"k"), session=bytes([number]) * 16)
    restarted = Replica(replica.limits)
    restarted.log += replica.log
    restarted.machine.restore(replica.machine.state())
    for each in (replica, restarted):
        each.time_us = 2000 * IDLE_MS
        each.write(put(b"k"), session=b"one too many....")
    assert replica.machine.state().sessions == restarted.machine.state().sessions
    assert replica.machine.state().sessions[0].session == bytes([1]) * 16


def test_sessions_of_short_programs_never_fill_a_shard(replica: Replica) -> None:
    """One program after the other, each with a session that it uses once."""
    for number in range(1, 1000):
        replica.time_us += 1000 * IDLE_MS // 2
        replica.write(put(b"k"), session=number.to_bytes(16, "big"))
    assert replica.machine.session_count == 3


def test_only_a_batch_that_opens_a_session_makes_room(replica: Replica) -> None:
    for number in range(3):
        replica.write(put(b"k"), session=bytes([number]) * 16)
    replica.time_us = 2000 * IDLE_MS
    assert replica.apply(batch_of(put(b"k"), session=b"unknown session.", opens_session=False)) is (
        Refusal.SESSION_EXPIRED
    )
    assert replica.machine.session_count == 3


def test_a_session_outlives_every_deadline() -> None:
    with pytest.raises(ValueError, match="session_idle_ms_min must be above deadline_ms_max"):
        Limits(deadline_ms_max=1000, session_idle_ms_min=1000)


def test_an_expired_session_never_applies_a_batch_afresh(replica: Replica) -> None:
    batch = batch_of(put(b"k", b"old"), opens_session=False)
    replica.apply(attrs.evolve(batch, opens_session=True))
    replica.write(put(b"k", b"new"), session=OTHER_SESSION)
    replica.time_us = 1_000
    assert replica.expire(1_000) == 2
    assert replica.apply(batch) is Refusal.SESSION_EXPIRED
    assert replica.machine.get(b"k") == Stored(2, b"new")


def test_expiry_ends_sessions_last_used_before_the_time_in_the_entry(replica: Replica) -> None:
    for number, time_us in enumerate((100, 200, 300)):
        replica.time_us = time_us
        replica.write(put(b"k"), session=bytes([number]) * 16)
    assert replica.expire(200) == 1
    assert replica.expire(200) == 0
    assert replica.expire(301) == 2
    assert replica.machine.session_count == 0


def test_a_use_between_the_proposal_of_an_expiry_and_its_apply_keeps_the_session(replica: Replica) -> None:
    replica.write(put(b"k"))
    replica.time_us = 500
    replica.write(put(b"k"), sequence=1)
    assert replica.expire(500) == 0


def test_a_retry_is_a_use(replica: Replica) -> None:
    batch = batch_of(put(b"k"))
    first = replica.apply(batch)
    replica.time_us = 500
    replica.apply(batch)
    assert replica.expire(500) == 0
    assert replica.apply(batch) == first


def test_an_expiry_is_worth_proposing_once_a_session_was_idle_for_its_timeout(replica: Replica) -> None:
    assert replica.machine.expirable_before(10 * HOUR_US) is None
    replica.time_us = 77
    replica.write(put(b"k"))
    assert replica.machine.expirable_before(77 + HOUR_US) is None
    before_us = replica.machine.expirable_before(78 + HOUR_US)
    assert before_us == 78
    assert replica.expire(before_us) == 1
    assert replica.machine.expirable_before(78 + HOUR_US) is None


# The window.


def test_results_below_answered_below_are_forgotten_and_such_sequences_refused(replica: Replica) -> None:
    for sequence in range(3):
        replica.write(put(b"k"), sequence=sequence)
    replica.write(put(b"k"), sequence=3, answered_below=2)
    assert replica.apply(batch_of(put(b"k"), sequence=1)) is Refusal.SESSION_EXPIRED
    assert replica.apply(batch_of(put(b"k"), sequence=2)) == BatchResult(3, bytes([WRITTEN]))
    [record] = replica.machine.state().sessions
    assert [sequence for sequence, _, _ in record.results] == [2, 3]


def test_a_late_batch_with_an_older_answered_below_does_not_lower_it(replica: Replica) -> None:
    replica.write(put(b"k"), sequence=9, answered_below=9)
    replica.write(put(b"k"), sequence=10, answered_below=3)
    assert replica.apply(batch_of(put(b"k"), sequence=8, answered_below=3)) is Refusal.SESSION_EXPIRED


def test_a_sequence_a_whole_window_above_the_oldest_unanswered_one_is_refused(replica: Replica) -> None:
    replica.write(put(b"k"), sequence=WINDOW - 1)
    before = replica.machine.revision
    beyond = batch_of(put(b"k"), sequence=WINDOW)
    assert replica.apply(beyond) is Refusal.WINDOW_FULL
    assert replica.machine.revision == before
    assert replica.apply(attrs.evolve(beyond, answered_below=1)) == BatchResult(2, bytes([WRITTEN]))


def test_a_refused_batch_still_says_what_its_client_holds(replica: Replica) -> None:
    replica.write(put(b"k"), sequence=0)
    assert replica.apply(batch_of(put(b"k"), sequence=9, answered_below=2)) is Refusal.WINDOW_FULL
    assert replica.apply(batch_of(put(b"k"), sequence=0)) is Refusal.SESSION_EXPIRED


def test_a_client_may_step_its_window_as_far_as_it_likes(replica: Replica) -> None:
    far = 2**63
    replica.write(put(b"k"), sequence=0)
    replica.write(put(b"k"), sequence=far, answered_below=far)
    [record] = replica.machine.state().sessions
    assert record.answered_below == far
    assert len(record.results) == 1


# Regrouped operations: the identity is (session, sequence, position).


def part(*positions: int, sequence: int = 0) -> Batch:
    """Some operations of one batch, regrouped after a map change: position n puts key "kn"."""
    return batch_of(*(put(b"k%d" % position) for position in positions), sequence=sequence, positions=positions)


def test_regrouped_parts_of_a_batch_apply_each_by_itself(replica: Replica) -> None:
    assert replica.apply(part(0, 2)) == BatchResult(1, bytes([WRITTEN] * 2))
    assert replica.apply(part(1)) == BatchResult(3, bytes([WRITTEN]))
    assert replica.apply(part(0, 2)) == BatchResult(1, bytes([WRITTEN] * 2))
    assert replica.apply(part(1)) == BatchResult(3, bytes([WRITTEN]))
    assert replica.machine.revision == 3


def test_a_part_of_a_batch_already_applied_gets_its_part_of_the_first_result(replica: Replica) -> None:
    replica.apply(batch_of(*(put(b"k%d" % position) for position in range(5))))
    assert replica.apply(part(1, 2)) == BatchResult(2, bytes([WRITTEN] * 2))
    assert replica.apply(part(0, 3)) == BatchResult(1, bytes([WRITTEN] * 2), (), (1, 4))
    assert replica.machine.revision == 5


def test_a_whole_batch_after_one_of_its_parts_applies_only_the_others(replica: Replica) -> None:
    replica.apply(part(1))
    replica.write(put(b"k1", b"somebody else's"), session=OTHER_SESSION)
    whole = batch_of(*(put(b"k%d" % position) for position in range(3)))
    result = replica.apply(whole)
    assert result == BatchResult(3, bytes([WRITTEN] * 3), (), (3, 1, 4))
    assert replica.machine.get(b"k1") == Stored(2, b"somebody else's")
    assert replica.apply(whole) == result
    assert replica.machine.revision == 4


def test_conflicts_found_first_are_told_again_however_regrouped(replica: Replica) -> None:
    replica.write(put(b"a"), put(b"b"), session=OTHER_SESSION)
    replica.write(put(b"a", if_absent=True), put(b"c"), put(b"b", if_absent=True))
    replica.write(delete(b"a"), delete(b"b"), session=OTHER_SESSION, sequence=1)
    again = batch_of(put(b"c"), put(b"b", if_absent=True), positions=(1, 2))
    assert replica.apply(again) == BatchResult(4, bytes([WRITTEN, CONFLICT]), (2,))
    assert replica.everything().keys() == {b"c"}


def test_a_key_outside_the_range_was_not_applied_and_applies_once_the_range_holds_it() -> None:
    replica = Replica(key_range=KeyRange(b"", b"m"))
    batch = batch_of(put(b"a"), put(b"z"), put(b"b"))
    first = replica.apply(batch)
    assert outcomes_of(first) == [WRITTEN, WRONG_SHARD, WRITTEN]
    assert replica.apply(batch) == first, "as long as the range is the same, so is the answer"
    replica.change_range(KeyRange())
    merged = replica.apply(batch)
    assert merged == BatchResult(1, bytes([WRITTEN] * 3), (), (1, 4, 3))
    assert replica.apply(batch) == merged
    assert replica.machine.revision == 4


def test_what_applied_before_the_range_shrank_keeps_its_result() -> None:
    replica = Replica()
    batch = batch_of(put(b"a"), put(b"z"))
    first = replica.apply(batch)
    replica.change_range(KeyRange(b"", b"m"))
    assert replica.apply(batch) == first


def test_an_atomic_batch_that_did_not_fit_the_range_applies_whole_when_it_does() -> None:
    replica = Replica(key_range=KeyRange(b"", b"m"))
    batch = batch_of(put(b"a"), put(b"z"), atomic=True)
    turned_away = replica.apply(batch)
    assert outcomes_of(turned_away) == [ABORTED, WRONG_SHARD]
    assert replica.apply(batch) == turned_away
    replica.change_range(KeyRange())
    replica.crash()
    applied = replica.apply(batch)
    assert outcomes_of(applied) == [WRITTEN, WRITTEN]
    assert replica.apply(batch) == applied
    assert replica.machine.revision == 4


def test_an_atomic_batch_is_never_applied_in_part(replica: Replica) -> None:
    """No correct client sends this: one sequence for two batches, the second of them atomic and longer."""
    replica.write(put(b"k0"))
    longer = batch_of(put(b"k0"), put(b"k1"), atomic=True)
    assert outcomes_of(replica.apply(longer)) == [WRITTEN, ABORTED]
    assert replica.everything().keys() == {b"k0"}


def test_retries_of_what_the_shard_does_not_hold_neither_count_nor_pile_up() -> None:
    replica = Replica(key_range=KeyRange(b"", b"m"))
    batch = batch_of(put(b"z"), delete(b"y"))
    first = replica.apply(batch)
    assert [replica.apply(batch) for _ in range(3)] == [first] * 3
    [record] = replica.machine.state().sessions
    assert record.results == ((0, (), first),)
    assert replica.machine.revision == 2


# The table is state.


def test_the_table_survives_a_restart(replica: Replica) -> None:
    parts = [part(1), part(0, 2)]
    first = [replica.apply(each) for each in parts]
    replica.write(put(b"x", if_absent=True), put(b"x", if_absent=True), sequence=1)
    replica.flush()
    replica.crash()
    assert [replica.apply(each) for each in parts] == first
    replica.crash()
    assert [replica.apply(each) for each in parts] == first
    assert replica.machine.revision == 5


def test_a_record_tells_all_of_a_session(replica: Replica) -> None:
    replica.time_us = 40
    replica.apply(part(1, sequence=3), part(0, sequence=3), part(0, sequence=2))
    assert replica.machine.state().sessions == (
        SessionRecord(
            session=SESSION,
            last_used_us=40,
            answered_below=0,
            results=(
                (2, (0,), BatchResult(3, bytes([WRITTEN]))),
                (3, (1,), BatchResult(1, bytes([WRITTEN]))),
                (3, (0,), BatchResult(2, bytes([WRITTEN]))),
            ),
        ),
    )


def test_records_are_exported_in_order_of_session_whatever_the_order_of_use(replica: Replica) -> None:
    for session in (b"c" * 16, b"a" * 16, b"b" * 16):
        replica.write(put(b"k"), session=session)
    replica.time_us = 1
    replica.write(put(b"k"), session=b"a" * 16, sequence=1)
    assert [record.session[:1] for record in replica.machine.state().sessions] == [b"a", b"b", b"c"]


def test_a_restarted_table_expires_what_the_running_one_would(replica: Replica) -> None:
    for time_us, session in ((10, b"c" * 16), (20, b"a" * 16), (30, b"b" * 16)):
        replica.time_us = time_us
        replica.write(put(b"k"), session=session)
    replica.flush()
    replica.crash()
    assert replica.machine.expirable_before(HOUR_US + 20) == 20
    assert replica.expire(20) == 1
    assert [record.session[:1] for record in replica.machine.state().sessions] == [b"a", b"b"]


def test_only_sessions_used_since_the_last_export_are_exported_anew(replica: Replica) -> None:
    replica.write(put(b"k"), session=b"a" * 16)
    replica.write(put(b"k"), session=b"b" * 16)
    earlier = replica.machine.state().sessions
    replica.write(put(b"k"), session=b"b" * 16, sequence=1)
    later = replica.machine.state().sessions
    assert later[0] is earlier[0]
    assert len(later[1].results) == 2


def test_a_retry_after_an_export_shows_in_the_next_one(replica: Replica) -> None:
    batch = batch_of(put(b"k"))
    replica.apply(batch)
    replica.flush()
    replica.time_us = 70
    replica.apply(batch)
    assert [record.last_used_us for record in replica.machine.state().sessions] == [70]
