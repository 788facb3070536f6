"""What a host says, as log lines: one structured line per event that an operator cares about."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

import attrs

from shardraft.host.turn import HostNote, ReplicaStopped
from shardraft.learner.ready import WHOLE_LINK, LearnerNote
from shardraft.raft.ready import BecameFollower, BecameLeader, Campaigned, Reconfigured, Refused, StateLost
from shardraft.transport.notes import ConnectFailed, HandlerFailed, TransportNote
from shardraft.types import NO_HOST, NO_REPLICA, HostId, Membership, ReplicaId, ShardId

PROVOKED_LINES_MAX: Final = 20
PROVOKED_WINDOW_SECONDS: Final = 60.0
"""What others provoke gets at most so many lines of one event within so long: nobody outside may fill the disk.
The next line of that event says how many were left out (``suppressed``)."""


class _TextFormatter(logging.Formatter):
    """``TIME level event name=value ...``; a value that is not one plain word is quoted as in JSON."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        told = " ".join(f"{name}={_quoted(_plain(value))}" for name, value in fields.items())
        line = f"{_time_of(record)} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time_of(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update({name: _plain(value) for name, value in getattr(record, "fields", {}).items()})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _time_of(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03}Z"


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)


def _quoted(value: object) -> object:
    if value is None:
        return "none"
    if isinstance(value, str) and (not value or not value.isprintable() or set(value) & set(' "=')):
        return json.dumps(value)
    return value


def log_to_stderr(level: str, log_format: str) -> None:
    """Set up logging for this process; ``log_format`` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Provoked:
    """Counts the lines of one event in the present window."""

    __slots__ = ("began", "lines", "suppressed")

    def __init__(self) -> None:
        self.began = 0.0
        self.lines = 0
        self.suppressed = 0

    def may_speak(self, now: float) -> bool:
        if now - self.began >= PROVOKED_WINDOW_SECONDS:
            self.began, self.lines = now, 0
        if self.lines >= PROVOKED_LINES_MAX:
            self.suppressed += 1
            return False
        self.lines += 1
        return True


class Telemetry:
    """The process's log. Every line is an event name and fields named as in the glossary.

    ``host_of`` says which host holds a replica, since operators know hosts and Raft knows replicas.
    """

    def __init__(self, host: int) -> None:
        self._logger = logging.getLogger("shardraft")
        self._host = host
        self.host_of: Callable[[ShardId, ReplicaId], HostId] = lambda shard, replica: NO_HOST
        self._provoked: dict[str, _Provoked] = {}
        self._led: set[ShardId] = set()

    def say(self, event: str, level: int = logging.INFO, **fields: object) -> None:
        """One line: what happened and its fields."""
        self._logger.log(level, event, extra={"fields": {"host": self._host, **fields}})

    def warn(self, event: str, **fields: object) -> None:
        self.say(event, logging.WARNING, **fields)

    def fail(self, error: BaseException) -> None:
        """Say in one line why the process ends."""
        self.say("failed", logging.ERROR, reason=str(error))

    def record_transport(self, note: TransportNote) -> None:
        """Write down what happened to a connection; a line of an attempt only when it is the first or a round one."""
        event = _event_name(type(note).__name__)
        if isinstance(note, HandlerFailed):
            if self._may_speak(event):
                fields = {"fields": {"host": self._host, "remote": note.remote}}
                self._logger.error(event, exc_info=note.error, extra=fields)
        elif isinstance(note, ConnectFailed) and note.attempt & (note.attempt - 1):
            self.say(event, logging.DEBUG, **_fields_of(note))
        else:
            self._warn_provoked(event, _fields_of(note))

    def record(self, notes: tuple[HostNote, ...]) -> None:
        """Write down what the host said in one turn."""
        for note in notes:
            event = _event_name(type(note).__name__)
            if isinstance(note, Refused):
                self._warn_provoked(event, _fields_of(note))
                continue
            level = self._level_of(note)
            if self._logger.isEnabledFor(level):
                self.say(event, level, **self._told(note))

    def _level_of(self, note: HostNote) -> int:
        if isinstance(note, Campaigned):
            return logging.DEBUG
        if isinstance(note, ReplicaStopped | StateLost):
            return logging.ERROR
        if isinstance(note, BecameLeader):
            self._led.add(note.shard)
        elif isinstance(note, BecameFollower):
            led = note.shard in self._led
            self._led.discard(note.shard)
            # Who follows nobody either led until then, which matters, or is about to say whom it follows.
            return logging.INFO if led or note.leader != NO_REPLICA else logging.DEBUG
        return logging.INFO

    def _told(self, note: HostNote) -> dict[str, object]:
        fields = _fields_of(note)
        if isinstance(note, BecameFollower):
            fields["leader"] = self.host_of(note.shard, note.leader) or None
        elif isinstance(note, Reconfigured):
            del fields["membership"]
            fields |= _hosts_of(note.membership)
        elif isinstance(note, LearnerNote) and note.shard == WHOLE_LINK:
            del fields["shard"]
        return fields

    def _warn_provoked(self, event: str, fields: dict[str, object]) -> None:
        if self._may_speak(event):
            provoked = self._provoked[event]
            if provoked.suppressed:
                fields["suppressed"], provoked.suppressed = provoked.suppressed, 0
            self.warn(event, **fields)

    def _may_speak(self, event: str) -> bool:
        return self._provoked.setdefault(event, _Provoked()).may_speak(time.monotonic())


def _fields_of(note: HostNote | TransportNote) -> dict[str, object]:
    """A note's ``host`` is somebody else's: the line's own ``host`` is who speaks."""
    names = [field.name for field in attrs.fields(type(note))]
    return {"about" if name == "host" else name: getattr(note, name) for name in names}


def _hosts_of(membership: Membership) -> dict[str, object]:
    """A configuration as an operator knows it: which hosts vote, which did so far, and which are catching up."""
    host_of = {member.replica: member.host for member in membership.members}
    parts = {
        "voters": membership.voters,
        "voters_outgoing": membership.voters_outgoing,
        "staging": membership.staging,
        "leaving": membership.leaving,
    }
    return {
        name: ",".join(str(host_of[replica]) for replica in replicas)
        for name, replicas in parts.items()
        if replicas or name == "voters"
    }


def _event_name(class_name: str) -> str:
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return words.strip("-").removesuffix("-note")
