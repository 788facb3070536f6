"""One follower as its leader sees it: probe, replicate, copy."""

from __future__ import annotations

from shardraft.config import RaftConfig
from shardraft.raft.progress import Progress, ProgressState
from shardraft.types import Index

QUIET_US = 50_000
CONFIG = RaftConfig(in_flight_messages_max=3, in_flight_bytes_max=1000)


def probing(next_index: Index = 11) -> Progress:
    return Progress(2, next_index, CONFIG, now_us=0)


def replicating(match_index: Index = 10) -> Progress:
    progress = probing(match_index + 1)
    progress.acknowledged(match_index)
    assert progress.state is ProgressState.REPLICATE
    return progress


def test_a_probe_is_sent_once_until_it_is_answered() -> None:
    progress = probing()
    assert progress.wants_append(last_index=10)
    progress.sent(10, 0, 0, now_us=0)
    assert not progress.wants_append(last_index=12)


def test_a_probe_is_repeated_at_a_sign_of_life_when_it_has_been_quiet() -> None:
    progress = probing()
    progress.sent(10, 0, 0, now_us=0)
    assert not progress.heartbeat_answered(10, QUIET_US, now_us=QUIET_US - 1)
    assert not progress.wants_append(10)
    assert progress.heartbeat_answered(10, QUIET_US, now_us=QUIET_US)
    assert progress.wants_append(10)


def test_a_matching_probe_begins_to_replicate() -> None:
    progress = probing()
    progress.sent(10, 0, 0, now_us=0)
    assert progress.acknowledged(10)
    assert (progress.state, progress.match_index, progress.next_index) == (ProgressState.REPLICATE, 10, 11)


def test_a_probe_that_matches_at_index_0_begins_to_replicate_too() -> None:
    progress = probing(1)
    assert not progress.acknowledged(0), "nothing is matched by it"
    assert (progress.state, progress.next_index) == (ProgressState.REPLICATE, 1)


def test_an_acknowledgement_below_what_is_known_ends_no_probe() -> None:
    """It was sent before whatever made the leader probe again."""
    progress = replicating(10)
    progress.become_probe()
    assert not progress.acknowledged(5)
    assert (progress.state, progress.match_index) == (ProgressState.PROBE, 10)


def test_a_refused_probe_steps_back_to_where_the_logs_may_agree() -> None:
    progress = probing(11)
    assert progress.refused(10, agree_index=4)
    assert (progress.next_index, progress.wants_append(10)) == (5, True)


def test_a_refused_probe_always_steps_back() -> None:
    progress = probing(11)
    assert progress.refused(10, agree_index=10)
    assert progress.next_index == 10


def test_a_probe_never_steps_back_behind_what_is_known_to_match() -> None:
    progress = replicating(10)
    progress.become_probe()
    assert progress.refused(10, agree_index=2)
    assert progress.next_index == 11


def test_a_stale_refusal_moves_nothing() -> None:
    progress = probing(11)
    assert not progress.refused(7, agree_index=0)
    assert progress.next_index == 11
    streaming = replicating(10)
    assert not streaming.refused(10, agree_index=0)
    assert streaming.state is ProgressState.REPLICATE


def test_a_refusal_while_streaming_means_that_something_was_lost() -> None:
    progress = replicating(10)
    for last_index in (12, 14):
        progress.sent(last_index, 100, 0, now_us=0)
    assert progress.next_index == 15
    assert progress.refused(12, agree_index=10)
    assert (progress.state, progress.next_index, progress.in_flight) == (ProgressState.PROBE, 11, (0, 0))


def test_what_is_in_flight_is_counted_and_freed_by_acknowledgements() -> None:
    progress = replicating(10)
    for last_index in (12, 14, 16):
        assert progress.wants_append(20)
        progress.sent(last_index, 100, 0, now_us=0)
    assert progress.in_flight == (3, 300)
    assert progress.window_full
    assert not progress.wants_append(20)
    assert progress.acknowledged(15)
    assert progress.in_flight == (1, 100)
    assert progress.wants_append(20)
    progress.sent(18, 900, 0, now_us=0)
    assert progress.window_full
    assert progress.in_flight == (2, 1000)


def test_a_commit_is_worth_a_message_only_if_the_follower_has_not_been_told() -> None:
    progress = replicating(10)
    assert progress.untold_commit(0) == 0
    assert progress.untold_commit(10) == 10
    progress.sent(10, 0, 10, now_us=0)
    assert progress.untold_commit(10) == 0
    assert progress.untold_commit(12) == 0, "it cannot commit what is not known to be held there"
    progress.sent(14, 100, 10, now_us=0)
    progress.acknowledged(14)
    assert progress.untold_commit(12) == 12


def test_a_follower_that_is_probed_is_told_no_commit_alone() -> None:
    progress = replicating(10)
    progress.become_probe()
    assert progress.untold_commit(10) == 0


def test_a_full_window_can_still_be_asked_whether_anything_arrived() -> None:
    progress = replicating(10)
    progress.sent(20, 1000, 0, now_us=0)
    assert not progress.wants_append(30)
    assert not progress.heartbeat_answered(30, QUIET_US, now_us=QUIET_US - 1)
    assert progress.heartbeat_answered(30, QUIET_US, now_us=QUIET_US)
    assert progress.wants_append(30)
    progress.sent(20, 0, 0, now_us=QUIET_US)
    assert not progress.wants_append(30)


def test_a_follower_that_has_everything_is_not_asked() -> None:
    progress = replicating(10)
    assert not progress.heartbeat_answered(10, QUIET_US, now_us=10 * QUIET_US)


def test_nothing_is_sent_while_a_snapshot_is_on_its_way() -> None:
    progress = probing(5)
    progress.become_copy()
    assert progress.copying
    assert not progress.wants_append(20)
    assert not progress.refused(4, 0)


def test_a_finished_snapshot_is_probed_from_its_index() -> None:
    progress = probing(5)
    progress.become_copy()
    progress.copy_finished(15, 20, now_us=0)
    assert (progress.state, progress.next_index, progress.match_index) == (ProgressState.PROBE, 16, 0)
    assert progress.wants_append(20)


def test_a_failed_snapshot_is_wanted_again_only_after_a_sign_of_life() -> None:
    progress = probing(5)
    progress.become_copy()
    progress.copy_finished(None, 20, now_us=0)
    assert not progress.wants_append(20)
    progress.heartbeat_answered(20, QUIET_US, now_us=QUIET_US)
    assert progress.wants_append(20)
    assert progress.next_index == 21, "it may hold everything"


def test_a_follower_that_was_not_so_far_behind_goes_on_from_the_log() -> None:
    progress = probing(5)
    progress.become_copy()
    progress.acknowledged(9)
    progress.resume_from_log(first_index=11)
    assert progress.copying
    progress.resume_from_log(first_index=10)
    assert (progress.state, progress.next_index) == (ProgressState.REPLICATE, 10)


def test_a_closed_connection_does_not_end_a_snapshot() -> None:
    """Whoever sends it says whether it failed."""
    progress = probing(5)
    progress.become_copy()
    progress.disconnected(now_us=0)
    assert progress.copying


def test_it_is_fed_by_entries_that_it_takes_as_they_come_and_answers() -> None:
    progress = Progress(2, 1, RaftConfig(), now_us=0)
    progress.sent(1, 10, 0, now_us=100)
    assert progress.fed_us(answered_us=-1) == 0, "a probe may be lost, and only a heartbeat's answer would tell"
    progress.acknowledged(1)
    progress.active_us = 150
    assert progress.fed_us(answered_us=149) == 100
    assert progress.fed_us(answered_us=150) == 0, "it was not heard lately"
