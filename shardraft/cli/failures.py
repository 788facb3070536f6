"""Errors as a person or a script meets them: one line of text and an exit code."""

from __future__ import annotations

from typing import Final

from shardraft.errors import PartialWrite, ShardraftError

EXIT_REFUSED: Final = 1
"""The cluster, or the operating system, said no; nothing was applied."""
EXIT_USAGE: Final = 2
"""The command line or its input makes no sense."""
EXIT_UNAVAILABLE: Final = 3
"""No host that could answer was reached in time; nothing was applied."""
EXIT_UNKNOWN: Final = 4
"""It is unknown whether a write was applied."""
EXIT_INTERRUPTED: Final = 130


def exit_code_of(error: ShardraftError) -> int:
    """The exit code of ``error``: an unknown outcome counts for more than its cause."""
    if error.applied == "unknown":
        return EXIT_UNKNOWN
    if isinstance(error, PartialWrite):
        return max((exit_code_of(each) for each in error.not_applied.values()), default=EXIT_REFUSED)
    return error.exit_code


def line_of(error: BaseException) -> str:
    """``error`` in one line; an unknown outcome is said, because a caller must not guess it."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and not isinstance(error, ShardraftError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, ShardraftError) and error.applied == "unknown" and "unknown" not in text:
        text += " (outcome unknown: it may have been applied)"
    return text


def leaf_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error to report of several that tasks raised together: an interrupt, else what is no expected error."""
    leaves: list[BaseException] = []
    waiting: list[BaseException] = [errors]
    while waiting:
        error = waiting.pop()
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
        else:
            leaves.append(error)
    leaves.sort(key=_severity, reverse=True)
    return leaves[0]


def _severity(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 7
    if not isinstance(error, ShardraftError | OSError):
        return 6
    return exit_code_of(error) if isinstance(error, ShardraftError) else EXIT_REFUSED
