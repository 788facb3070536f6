"""One real ``shardraft host`` or ``shardraft learner``: started, listened to, signalled, and gone at the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TypeAlias

from shardraft.types import Endpoint, HostId

Event: TypeAlias = dict[str, Any]
"""One line of the process's log: time, level, event and its fields."""
HEARD_SECONDS_MAX = 20.0


class ServerProcess:
    """``kind`` is "host" or "learner". Each start is a new operating system process on the same data directory.

    Every line of its log must be one JSON object; ``events`` holds those of the present start.
    """

    def __init__(self, kind: str, host: HostId, endpoint: Endpoint, data_dir: Path, *arguments: str) -> None:
        self.host = host
        self.endpoint = endpoint
        self.data_dir = data_dir
        self.events: list[Event] = []
        self._command = [sys.executable, "-m", "shardraft", kind, "--id", str(host), "--listen", str(endpoint)]
        self._command += ["--data-dir", str(data_dir), "--log-format", "json", *arguments]
        self._heard = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._all_heard = False

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        assert not self.runs, "it runs already"
        self.events, self._all_heard = [], False
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._listener = threading.Thread(target=self._listen, args=(self._process,))
        self._listener.start()

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                with self._heard:
                    self.events.append(_parsed(line))
                    self._heard.notify_all()
        with self._heard:
            self._all_heard = True
            self._heard.notify_all()

    def heard(self, name: str, **fields: object) -> Event:
        """Wait until this start has logged such an event; fails when the process ends first.

        A field that is a text matches where it is contained.
        """
        with self._heard:
            self._heard.wait_for(lambda: self._all_heard or self._find(name, fields), HEARD_SECONDS_MAX)
            event = self._find(name, fields)
        assert event is not None, f"never heard {name} {fields} in {self.events}"
        return event

    def _find(self, name: str, fields: Event) -> Event | None:
        return next((each for each in self.events if each["event"] == name and _matches(each, fields)), None)

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """``kill -9``, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        assert self.exit_code() == -signal.SIGKILL

    def stop(self) -> int:
        """Ask it to stop; the exit code."""
        self.send_signal(signal.SIGTERM)
        return self.exit_code()

    def exit_code(self, within_seconds: float = HEARD_SECONDS_MAX) -> int:
        """Wait for its end. All that it logged was heard then, and all of that was JSON."""
        assert self._process is not None
        assert self._listener is not None
        code = self._process.wait(within_seconds)
        self._listener.join(within_seconds)
        assert [event for event in self.events if event["event"] == "not-json"] == []
        return code

    def abolish(self) -> None:
        """At the end of a test: gone, whatever state it was in."""
        if self._process is None or self._listener is None:
            return
        self._process.kill()  # A stopped process (SIGSTOP) dies of it as well.
        self._process.wait()
        self._listener.join()


def _matches(event: Event, fields: Event) -> bool:
    return all(
        wanted in event.get(name, "") if isinstance(wanted, str) else event.get(name) == wanted
        for name, wanted in fields.items()
    )


def _parsed(line: bytes) -> Event:
    try:
        event: Event = json.loads(line)
    except ValueError:
        return {"event": "not-json", "line": line.decode("utf-8", "replace")}
    return event
