"""One structured line per event that an operator cares about, in text or JSON, and never a flood of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from shardraft.errors import ErrorCode
from shardraft.host.turn import ReplicaStopped
from shardraft.learner.ready import WHOLE_LINK, LearnerNote
from shardraft.raft.ready import BecameFollower, BecameLeader, Campaigned, Reconfigured, Refused, StateLost
from shardraft.server import telemetry as module
from shardraft.server.telemetry import PROVOKED_LINES_MAX, PROVOKED_WINDOW_SECONDS, Telemetry, log_to_stderr
from shardraft.transport.notes import ConnectFailed, ConnectionRefused, HandlerFailed
from shardraft.types import Member, Membership

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def speaker(level: str = "debug", log_format: str = "json") -> Telemetry:
    """Of host 7, to standard error."""
    log_to_stderr(level, log_format)
    return Telemetry(7)


def said(capsys: Captured) -> list[dict[str, object]]:
    """What was logged since the last time, without the time."""
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for event in events:
        assert event.pop("host") == 7
        assert str(event.pop("time")).endswith("Z")
    return events


def test_a_line_of_json_names_its_event_and_its_fields(capsys: Captured) -> None:
    telemetry = speaker()
    telemetry.say("started", endpoint="h:1", cluster=b"\xab\xcd", code=ErrorCode.TOO_LARGE, shards=8, parent=None)
    expected = {"endpoint": "h:1", "cluster": "abcd", "code": "too_large", "shards": 8, "parent": None}
    assert said(capsys) == [{"level": "info", "event": "started", **expected}]


def test_a_line_of_text_can_be_split_again(capsys: Captured) -> None:
    telemetry = speaker("info", "text")
    telemetry.warn(
        "odd", plain="x", spaced="two words", empty="", line="a\nb", quoted='say "x"', equal="a=b", none=None
    )
    (line,) = capsys.readouterr().err.splitlines()
    told = r'host=7 plain=x spaced="two words" empty="" line="a\nb" quoted="say \"x\"" equal="a=b" none=none'
    assert line.endswith(f" warning odd {told}")


def test_the_level_is_kept_to(capsys: Captured) -> None:
    telemetry = speaker("warning")
    telemetry.say("started")
    telemetry.record((BecameLeader(1, 1),))
    telemetry.warn("disk-space")
    assert [event["event"] for event in said(capsys)] == ["disk-space"]


def test_a_leader_is_named_by_its_host(capsys: Captured) -> None:
    telemetry = speaker()
    telemetry.host_of = lambda shard, replica: 10 * shard + replica
    telemetry.record((BecameFollower(4, 2, 1, "heard from the leader"),))
    expected = {"shard": 4, "term": 2, "leader": 41, "reason": "heard from the leader"}
    assert said(capsys) == [{"level": "info", "event": "became-follower", **expected}]


def test_a_configuration_is_told_in_hosts(capsys: Captured) -> None:
    telemetry = speaker()
    members = (Member(1, 11), Member(2, 12), Member(3, 13), Member(4, 14))
    joint = Membership(members, voters=(2, 3, 4), voters_outgoing=(1, 2, 3))
    telemetry.record((Reconfigured(5, 9, joint), Reconfigured(5, 10, Membership(members[1:], voters=(2, 3, 4)))))
    told = {"level": "info", "event": "reconfigured", "shard": 5}
    assert said(capsys) == [
        {**told, "index": 9, "voters": "12,13,14", "voters_outgoing": "11,12,13"},
        {**told, "index": 10, "voters": "12,13,14"},
    ]


def test_losing_the_lead_is_told_and_the_steps_of_an_election_are_for_debugging(capsys: Captured) -> None:
    telemetry = speaker()
    lost, unknown = BecameFollower(1, 2, 0, "no quorum"), BecameFollower(2, 2, 0, "a later term was seen")
    telemetry.record((Campaigned(1, 1, True), BecameLeader(1, 1), unknown, lost, lost))
    assert [(event["level"], event["event"]) for event in said(capsys)] == [
        ("debug", "campaigned"),
        ("info", "became-leader"),
        ("debug", "became-follower"),
        ("info", "became-follower"),
        ("debug", "became-follower"),
    ]


def test_a_replica_that_stops_is_an_error(capsys: Captured) -> None:
    telemetry = speaker("error")
    telemetry.record((StateLost(1, 2, 9, 7), ReplicaStopped(3, 8, 2)))
    assert said(capsys) == [
        {"level": "error", "event": "state-lost", "shard": 1, "term": 2, "index": 9, "last_index": 7},
        {"level": "error", "event": "replica-stopped", "shard": 3, "index": 8, "about": 2},
    ]


def test_a_note_about_a_whole_link_names_no_shard(capsys: Captured) -> None:
    telemetry = speaker()
    telemetry.record((LearnerNote(WHOLE_LINK, 2, "attached"), LearnerNote(3, 2, "diverged")))
    assert said(capsys) == [
        {"level": "info", "event": "learner", "about": 2, "what": "attached"},
        {"level": "info", "event": "learner", "about": 2, "what": "diverged", "shard": 3},
    ]


def test_attempts_to_connect_are_told_ever_more_rarely(capsys: Captured) -> None:
    telemetry = speaker()
    for attempt in range(1, 10):
        telemetry.record_transport(ConnectFailed("h:1", attempt, "Connection refused"))
    told = [event["attempt"] for event in said(capsys) if event["level"] == "warning"]
    assert told == [1, 2, 4, 8]


def test_a_fault_of_this_program_is_told_with_its_traceback(capsys: Captured) -> None:
    telemetry = speaker()
    telemetry.record_transport(HandlerFailed("h:1", RuntimeError("oops")))
    (event,) = said(capsys)
    assert (event["level"], event["event"], event["remote"]) == ("error", "handler-failed", "h:1")
    assert "RuntimeError: oops" in str(event["exception"])


@pytest.mark.parametrize("by", ["connections", "messages"])
def test_what_others_provoke_does_not_fill_the_disk(capsys: Captured, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    telemetry = speaker()
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)

    def provoke() -> None:
        if by == "messages":
            telemetry.record((Refused(1, "nonsense"),))
        else:
            telemetry.record_transport(ConnectionRefused("h:1", ErrorCode.TOO_LARGE, "large"))

    for _ in range(PROVOKED_LINES_MAX + 30):
        provoke()
    assert len(said(capsys)) == PROVOKED_LINES_MAX
    now += PROVOKED_WINDOW_SECONDS
    provoke()
    provoke()
    first, second = said(capsys)
    assert first["suppressed"] == 30
    assert "suppressed" not in second
