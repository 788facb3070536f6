"""The disk threads: one for the log environment, one for the state environment (DESIGN section 6).

LMDB's write transactions stay on the thread that began them, so each environment has exactly one.
The log thread joins all batches that wait into one transaction: cost per batch falls as load rises.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

import trio

from shardraft.errors import StorageError
from shardraft.host.ports import Store
from shardraft.host.turn import LogBatch

Job = Callable[[], Callable[[], None]]
"""Runs on the thread; what it returns runs on the loop."""


class DiskThread:
    """One dedicated thread that runs jobs in order and brings each result back to the loop.

    Any exception of a job is fatal: after a failed sync the next one lies. ``failed`` then holds it, and
    no further job runs.
    """

    def __init__(self, name: str, on_failure: Callable[[BaseException], None]) -> None:
        self._name = name
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._on_failure = on_failure
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None:
                return
            try:
                done = job()
            except BaseException as error:
                self._back(lambda error=error: self._on_failure(error))  # type: ignore[misc]
                return
            self._back(done)

    def _back(self, done: Callable[[], None]) -> None:
        try:
            self._token.run_sync_soon(done)
        except trio.RunFinishedError:
            pass  # The loop is gone: the process ends and nobody waits for this any more.

    async def stop(self) -> None:
        """Let what was submitted finish, then end the thread."""
        self._jobs.put(None)
        await trio.to_thread.run_sync(self._thread.join)


class LogThread:
    """Commits log batches, joining those that wait; says which turns became durable, in order."""

    def __init__(
        self, store: Store, on_committed: Callable[[list[int]], None], on_failure: Callable[[BaseException], None]
    ) -> None:
        self._store = store
        self._on_committed = on_committed
        self._waiting: SimpleQueue[tuple[int, LogBatch]] = SimpleQueue()
        self._thread = DiskThread("shardraft-log", on_failure)

    def submit(self, number: int, batch: LogBatch) -> None:
        self._waiting.put((number, batch))
        self._thread.submit(self._commit)

    def run(self, job: Job) -> None:
        """Run something else on the log's thread, after all that was submitted."""
        self._thread.submit(job)

    def _commit(self) -> Callable[[], None]:
        joined: list[tuple[int, LogBatch]] = []
        while not self._waiting.empty():
            joined.append(self._waiting.get())
        if not joined:
            return _nothing  # An earlier job took this batch along.
        self._store.commit_log([batch for _, batch in joined])
        numbers = [number for number, _ in joined]
        return lambda: self._on_committed(numbers)

    async def stop(self) -> None:
        await self._thread.stop()


def _nothing() -> None:
    """What a job brings back when an earlier one did its work."""


def as_storage_error(error: BaseException) -> StorageError:
    """The sentence with which a process ends after its disk failed."""
    if isinstance(error, StorageError):
        return error
    return StorageError(
        f"the disk failed ({type(error).__name__}: {error}); the process ends and promises nothing more"
    )
