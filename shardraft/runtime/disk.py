"""The disk threads: one for the log, one for the state, one that makes copies (DESIGN section 6).

LMDB's write transactions stay on the thread that began them, so the state has exactly one, and so has the log.
The log thread joins all batches that wait into one block: cost per batch falls as load rises. Where syncs
are slow and batches come in groups, a commit waits for the rest of its group (``company``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

import trio

from shardraft.errors import StorageError
from shardraft.host.ports import Store
from shardraft.host.turn import LogBatch
from shardraft.runtime.company import Company

STOP_SECONDS_MAX: Final = 5.0
"""A thread that still works after this long hangs in a write that its disk does not finish."""
Job = Callable[[], Callable[[], None]]
"""Runs on the thread; what it returns runs on the loop."""
CallSoon = Callable[[Callable[[], None]], object]
"""Has something called on the loop soon; may be called on any thread."""


class DiskThread:
    """One dedicated thread that runs jobs in order and brings each result back to the loop.

    Any exception of a job is fatal: after a failed sync the next one lies. ``on_failure`` then hears it, on
    the loop, and no further job runs.
    """

    def __init__(self, name: str, on_failure: Callable[[BaseException], None], call_soon: CallSoon) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._on_failure = on_failure
        self._call_soon = call_soon
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Run ``job`` after everything that was submitted before."""
        self._queue.put(job)

    async def stop(self) -> bool:
        """Let what was submitted finish, then end the thread; False when it still works after ``STOP_SECONDS_MAX``."""
        self._queue.put(None)
        await trio.to_thread.run_sync(self._thread.join, STOP_SECONDS_MAX)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (job := self._queue.get()) is not None:
                self._call_soon(job())
        except BaseException as error:  # Whatever it is, the process must not go on.
            failure = error
            try:
                self._token.run_sync_soon(self._on_failure, failure)  # Also when the loop takes no turn any more.
            except trio.RunFinishedError:
                pass  # The process ends, and nobody waits for this any more.


class LogThread(DiskThread):
    """Commits log batches, joining those that wait; says which turns became durable, in order."""

    def __init__(
        self,
        store: Store,
        on_committed: Callable[[list[int]], None],
        on_failure: Callable[[BaseException], None],
        call_soon: CallSoon,
    ) -> None:
        self._store = store
        self._on_committed = on_committed
        self._company = Company()
        self._batches: deque[tuple[int, LogBatch]] = deque()
        super().__init__("shardraft-log", on_failure, call_soon)

    def commit(self, number: int, batch: LogBatch) -> None:
        """Commit the batch of a turn; one job takes along every batch that waits when it runs."""
        self._batches.append((number, batch))
        # Whoever appends to an empty deque submits; the job pops until it is empty, so no batch is left behind.
        if len(self._batches) == 1:
            self.submit(self._commit)

    def _commit(self) -> Callable[[], None]:
        batches, company = self._batches, self._company
        if batches and (wait_seconds := company.wait_seconds):
            time.sleep(wait_seconds)
        joined: list[tuple[int, LogBatch]] = []
        while batches:
            joined.append(batches.popleft())
        if not joined:
            return _nothing  # The job before this one took its batch along.
        begun = time.monotonic()
        self._store.commit_log([batch for _, batch in joined])
        company.committed(len(joined), bool(batches), time.monotonic() - begun)
        numbers = [number for number, _ in joined]
        return lambda: self._on_committed(numbers)


def _nothing() -> None:
    """What a job brings back when an earlier one did its work."""


def as_storage_error(error: BaseException) -> StorageError:
    """The sentence with which a process ends after its disk failed."""
    if isinstance(error, StorageError):
        return error
    return StorageError(
        f"the disk failed ({type(error).__name__}: {error}); the process ends and promises nothing more"
    )
