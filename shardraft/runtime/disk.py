"""The disk threads: one for the state, one that makes copies, one for what the log does alone (DESIGN section 6).

LMDB's write transactions stay on the thread that began them, so the state has exactly one. Most commits of the log need
no thread of Python: ``log_commits``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

import trio

from shardraft.errors import StorageError
from shardraft.runtime.log_commits import Job

STOP_SECONDS_MAX: Final = 5.0
"""A thread that still works after this long hangs in a write that its disk does not finish."""
REST_SECONDS: Final = 60.0
"""Without a job for so long a thread is at rest: longer than what was applied stays unflushed (``host.flushing``)."""
PAUSES_AT_REST: Final = 15
"""A pause of a thread at rest is so many times as long as the piece of work before it, since others may be busy."""
CallSoon = Callable[[Callable[[], None]], object]
"""Has something called on the loop soon; may be called on any thread."""


class DiskThread:
    """One dedicated thread that runs jobs in order and brings each result back to the loop.

    Any exception of a job is fatal: after a failed sync the next one lies. ``on_failure`` then hears it, on
    the loop, and no further job runs. Once there was no job for ``rest_seconds``, ``at_rest`` is called until it
    returns False or a job comes: it does a little of what can wait, at most some ten milliseconds, and is followed by
    a pause, which a job ends. ``clock`` tells seconds.
    """

    def __init__(
        self,
        name: str,
        on_failure: Callable[[BaseException], None],
        call_soon: CallSoon,
        *,
        at_rest: Callable[[], bool] | None = None,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._at_rest = at_rest
        self._rest_seconds = rest_seconds
        self._clock = clock
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
            while (job := self._next_job()) is not None:
                self._call_soon(job())
        except BaseException as error:  # Whatever it is, the process must not go on.
            failure = error
            try:
                self._token.run_sync_soon(self._on_failure, failure)  # Also when the loop takes no turn any more.
            except trio.RunFinishedError:
                pass  # The process ends, and nobody waits for this any more.

    def _next_job(self) -> Job | None:
        at_rest = self._at_rest
        wait_seconds = self._rest_seconds
        while at_rest is not None:
            try:
                return self._queue.get(timeout=wait_seconds)
            except Empty:
                begun = self._clock()
                if not at_rest():
                    break
                wait_seconds = PAUSES_AT_REST * (self._clock() - begun)
        return self._queue.get()


def as_storage_error(error: BaseException) -> StorageError:
    """The sentence with which a process ends after its disk failed."""
    if isinstance(error, StorageError):
        return error
    return StorageError(
        f"the disk failed ({type(error).__name__}: {error}); the process ends and promises nothing more"
    )
