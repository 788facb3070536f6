"""What a host says, as log lines: one structured line per event that an operator cares about."""

from __future__ import annotations

import json
import logging
import sys
from enum import Enum
from typing import Final

import attrs

from shardraft.host.turn import HostNote
from shardraft.raft.ready import Campaigned, Refused
from shardraft.transport.notes import ConnectFailed, HandlerFailed, TransportNote

_LEVELS: Final = {Campaigned: logging.DEBUG, Refused: logging.WARNING}
"""Everything else that a host says is worth a line at the usual level."""

_REFUSED_LINES_MAX: Final = 100
"""Lines about refused messages in one process; a hostile peer must not fill the disk. The count goes on."""


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        told = " ".join(f"{name}={_plain(value)}" for name, value in fields.items())
        line = f"{self.formatTime(record)} {record.levelname.lower():7} {record.getMessage()} {told}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line.update({name: _plain(value) for name, value in getattr(record, "fields", {}).items()})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | float | str | bool) or value is None else str(value)


def log_to_stderr(level: str, log_format: str) -> None:
    """Set up logging for this process; ``log_format`` is "text" or "json"."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if log_format == "json" else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Telemetry:
    """The process's log. Every line is an event name and fields named as in the glossary."""

    def __init__(self, host: int) -> None:
        self._logger = logging.getLogger("shardraft")
        self._host = host
        self.refused_count = 0

    def say(self, event: str, level: int = logging.INFO, **fields: object) -> None:
        """One line: what happened and its fields."""
        self._logger.log(level, event, extra={"fields": {"host": self._host, **fields}})

    def warn(self, event: str, **fields: object) -> None:
        self.say(event, logging.WARNING, **fields)

    def record_transport(self, note: TransportNote) -> None:
        """Write down what happened to a connection; a line of an attempt only when it is the first or a round one."""
        fields = {field.name: getattr(note, field.name) for field in attrs.fields(type(note))}
        if isinstance(note, HandlerFailed):
            self._logger.error(_event_name("HandlerFailed"), exc_info=note.error, extra={"fields": {"host": self._host}})
        elif isinstance(note, ConnectFailed) and note.attempt & (note.attempt - 1):
            self.say(_event_name("ConnectFailed"), logging.DEBUG, **fields)
        else:
            self.say(_event_name(type(note).__name__), logging.WARNING, **fields)

    def record(self, notes: tuple[HostNote, ...]) -> None:
        """Write down what the host said in one turn."""
        for note in notes:
            if isinstance(note, Refused):
                self.refused_count += 1
                if self.refused_count > _REFUSED_LINES_MAX:
                    continue
            level = _LEVELS.get(type(note), logging.INFO)
            if self._logger.isEnabledFor(level):
                fields = {field.name: getattr(note, field.name) for field in attrs.fields(type(note))}
                self.say(_event_name(type(note).__name__), level, **_renamed(fields))


def _renamed(fields: dict[str, object]) -> dict[str, object]:
    """A note's ``host`` is somebody else's: the line's own ``host`` is who speaks."""
    return {"about" if name == "host" else name: value for name, value in fields.items()}


def _event_name(class_name: str) -> str:
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in class_name)
    return words.strip("-").removesuffix("-note")
