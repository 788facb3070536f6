"""Is a history of one-key operations linearizable? A just-in-time sweep, key by key.

Linearizability is local (Herlihy and Wing, 1990): a history is linearizable when the history of
each key is, so each key is judged alone. The sequential specification of a key is a register
with revisions: a write that was acknowledged with revision r is legal only after writes of
smaller revisions, and leaves the key at r; a delete leaves it absent; a condition must hold when
the write takes effect. Values are unique per key, so a value names the write it came from.

The specification orders the acknowledged writes of a key by their revisions, and the sweep then
checks that this order agrees with real time, with every condition and with everything that was
read; a revision that lies makes the history illegal, it is never believed. Freedom is left only
to reads and to writes of unknown outcome. Reads are taken as early as possible, which never
hurts since they change nothing. A write of unknown outcome whose value was read took effect, at
the revision that was read. Any other may take effect at any time after its call, or never; all
of one kind are interchangeable and are counted, not named.

The sweep passes the calls and returns in order and keeps every *configuration* (what may have
taken effect so far) that explains them; it moves a configuration on only when a return demands
it (Lowe, 2017, "just in time"). No configuration left: a violation. Too many: ``UNDECIDED``,
which every caller treats as a failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, TypeAlias

import attrs

from shardraft.kv.commands import ABSENT
from shardraft.sim.history import ANY, HIDDEN, PRESENT, KeyHistory, Operation, Violation, read_history
from shardraft.types import INTEGER_MAX

CONFIGURATIONS_MAX: Final = 20_000
"""Configurations of one key looked at for one return; above it the key is ``UNDECIDED``."""


class Verdict(Enum):
    """What the checker says of a history."""

    LINEARIZABLE = "linearizable"
    VIOLATION = "violation"
    UNDECIDED = "undecided"


@attrs.frozen(slots=True)
class Finding:
    """The verdict; for a bad one the key and a few words for a person."""

    verdict: Verdict
    key: bytes = b""
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.verdict is Verdict.LINEARIZABLE


def check(operations: Iterable[Operation], configurations_max: int = CONFIGURATIONS_MAX) -> Finding:
    """Judge a whole history; the first bad key ends it. Keys are judged in ascending order."""
    by_key: dict[bytes, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    for key in sorted(by_key):
        finding = check_key(by_key[key], configurations_max)
        if not finding.good:
            return finding
    return Finding(Verdict.LINEARIZABLE)


def check_key(operations: list[Operation], configurations_max: int = CONFIGURATIONS_MAX) -> Finding:
    """Judge the history of one key."""
    key = operations[0].key
    try:
        history = read_history(operations)
        _Sweep(history, configurations_max).run()
    except Violation as violation:
        return Finding(Verdict.VIOLATION, key, str(violation))
    except _Undecided as undecided:
        return Finding(Verdict.UNDECIDED, key, str(undecided))
    return Finding(Verdict.LINEARIZABLE)


class _Undecided(Exception):
    pass


_COUNTED: Final = ((True, ANY), (True, ABSENT), (False, ANY))
"""Unknown writes by (leaves the key present, the state it needs): those of one kind are interchangeable.

Only these may be used more than once. One that needs a revision is good for one moment: that
revision never comes again, so nothing needs to be counted.
"""


_Configuration: TypeAlias = tuple[int, int, int, tuple[int, ...], int]
"""(writes done, a bound that the key's revisions are past, state, unknown writes used by kind, reads done)"""

_WRITE_RETURNS, _READ_RETURNS, _CALLS, _UNKNOWN_CALLS = 3, 2, 0, 1


class _Sweep:
    """The pass over one key's calls and returns."""

    def __init__(self, history: KeyHistory, configurations_max: int) -> None:
        self.history = history
        self.configurations_max = configurations_max
        self.position = 0
        self.available = [0] * len(_COUNTED)
        self.conditional: dict[int, list[int]] = {}
        """For each revision that unknown writes in flight need, the states they would leave."""
        self.standing: list[int] = []
        """The keys of ``conditional`` that no known write left: only a hidden state can be there."""
        self.pending_by_state: dict[int, int] = {}
        """For each state that pending reads saw, the bit set of those reads."""
        self.pending_hidden: dict[int, int] = {}
        """Of these states the ones that no known write left, with the number of reads."""
        self.told = {write.revision for write in history.writes}
        self.last_seen: dict[int, int] = {}
        for called, _, seen in history.observations:
            self.last_seen[seen] = max(self.last_seen.get(seen, called), called)

    def run(self) -> None:
        configurations: list[_Configuration] = [(0, 0, ABSENT, (0,) * len(_COUNTED), 0)]
        bits: dict[int, int] = {}
        free_bits: list[int] = []
        for position, what, number in self._events():
            self.position = position
            if what == _CALLS:
                bit = free_bits.pop() if free_bits else 1 << len(bits)
                bits[number] = bit
                configurations = self._read_called(configurations, number, bit)
            elif what == _UNKNOWN_CALLS:
                self._unknown_called(*self.history.unknown_calls[number][1:])
            elif what == _WRITE_RETURNS:
                configurations = self._write_returned(configurations, number)
            else:
                configurations = self._read_returned(configurations, number, bits[number])
                free_bits.append(bits[number])

    def _events(self) -> list[tuple[int, int, int]]:
        """(position, what, number) in order; at equal positions calls come first, for they are concurrent."""
        events: list[tuple[int, int, int]] = []
        for number, (called, returned, _) in enumerate(self.history.observations):
            events.append((called, _CALLS, number))
            events.append((returned, _READ_RETURNS, number))
        for number, (called, _, _) in enumerate(self.history.unknown_calls):
            events.append((called, _UNKNOWN_CALLS, number))
        for number, write in enumerate(self.history.writes):
            if write.returned is not None:
                events.append((write.returned, _WRITE_RETURNS, number))
        events.sort()
        return events

    def _unknown_called(self, present: bool, need: int) -> None:
        if need <= ABSENT:
            self.available[_COUNTED.index((present, need))] += 1
            return
        after = HIDDEN if present else ABSENT
        afters = self.conditional.setdefault(need, [])
        if not afters and need not in self.told:
            self.standing.append(need)
        if after not in afters:
            afters.append(after)

    def _read_called(self, configurations: list[_Configuration], number: int, bit: int) -> list[_Configuration]:
        state = self.history.observations[number][2]
        self.pending_by_state[state] = self.pending_by_state.get(state, 0) | bit
        if state > 0 and state not in self.told:
            self.pending_hidden[state] = self.pending_hidden.get(state, 0) + 1
        return [
            (done, low, now, used, reads | bit) if now == state else (done, low, now, used, reads)
            for done, low, now, used, reads in configurations
        ]

    def _read_returned(self, configurations: list[_Configuration], number: int, bit: int) -> list[_Configuration]:
        state = self.history.observations[number][2]
        kept: set[_Configuration] = set()
        behind: list[_Configuration] = []
        for configuration in configurations:
            if configuration[4] & bit:
                kept.add(configuration)
            else:
                behind.append(configuration)
        if behind:
            kept.update(self._advance(behind, 0, bit))
        self.pending_by_state[state] &= ~bit
        if state in self.pending_hidden:
            self.pending_hidden[state] -= 1
            if not self.pending_hidden[state]:
                del self.pending_hidden[state]
        if not kept:
            called, returned, seen = self.history.observations[number]
            raise Violation(f"what was seen in [{called}, {returned}] (revision {seen}) was not so at any time in it")
        return self._reduced({(done, low, now, used, reads & ~bit) for done, low, now, used, reads in kept})

    def _write_returned(self, configurations: list[_Configuration], number: int) -> list[_Configuration]:
        if len(configurations) == 1 and configurations[0][0] > number:
            return configurations
        kept = {configuration for configuration in configurations if configuration[0] > number}
        behind = [configuration for configuration in configurations if configuration[0] <= number]
        if behind:
            kept.update(self._advance(behind, number + 1, 0))
        if not kept:
            write = self.history.writes[number]
            raise Violation(
                f"the write of revision {write.revision} in [{write.called}, {write.returned}]"
                " can have taken effect at no time in it"
            )
        return self._reduced(kept)

    def _advance(self, behind: list[_Configuration], done_min: int, bit: int) -> set[_Configuration]:
        """Every configuration that follows and has ``done_min`` writes or the read of ``bit``, not moved further."""
        reached: set[_Configuration] = set()
        seen: dict[tuple[int, int], list[_Configuration]] = {}
        stack = [configuration for configuration in behind if _is_better(configuration, seen)]
        looked_at = len(stack)
        while stack:
            for following in self._moves(stack.pop()):
                looked_at += 1
                if (bit and following[4] & bit) or (done_min and following[0] >= done_min):
                    reached.add(following)
                elif _is_better(following, seen):
                    stack.append(following)
            if looked_at > self.configurations_max:
                raise _Undecided(f"more than {self.configurations_max} explanations are possible")
        return reached

    def _moves(self, configuration: _Configuration) -> list[_Configuration]:
        done, low, state, used, reads = configuration
        moves: list[_Configuration] = []
        if state == HIDDEN:
            moves.extend(
                (done, told, told, used, reads | self.pending_by_state[told])
                for told in self.pending_hidden
                if told >= low
            )
        if state > 0 and self.last_seen.get(state, self.position) > self.position:
            return moves  # Someone will call later and see this very revision: it must not be left yet.
        if done < len(self.history.writes):
            write = self.history.writes[done]
            if (
                write.called <= self.position
                and write.revision > low
                and self._meets(write.need, state, low, write.revision)
            ):
                moves.append((done + 1, write.revision, write.after, used, self._with_reads(reads, write.after)))
        for number, (present, need) in enumerate(_COUNTED):
            if used[number] >= self.available[number] or not self._meets(need, state, low):
                continue
            if (state == HIDDEN and present) or (state == ABSENT and not present):
                continue  # It would change nothing that anyone can tell.
            after = HIDDEN if present else ABSENT
            counted = (*used[:number], used[number] + 1, *used[number + 1 :])
            moves.append((done, low + 1, after, counted, self._with_reads(reads, after)))
        for need in self.standing if state == HIDDEN else (state,):
            if need >= low and (state == need or need not in self.told):
                moves.extend(
                    (done, need + 1, after, used, self._with_reads(reads, after))
                    for after in self.conditional.get(need, ())
                )
        return moves

    def _meets(self, need: int, state: int, low: int, revision: int = INTEGER_MAX) -> bool:
        """Does ``state`` meet ``need``? A hidden revision may be any untold one from ``low`` up, below ``revision``."""
        if need == ANY:
            return True
        if need == PRESENT:
            return state != ABSENT
        if state == HIDDEN:
            return low <= need < revision and need not in self.told
        return need == state

    def _with_reads(self, reads: int, state: int) -> int:
        return reads | self.pending_by_state.get(state, 0)

    def _reduced(self, configurations: set[_Configuration]) -> list[_Configuration]:
        """Without those that another one can do everything that they can: it used fewer unknown writes."""
        if len(configurations) == 1:
            return list(configurations)
        kept: list[_Configuration] = []
        for one in sorted(configurations, key=lambda each: (each[:4], -each[4])):
            if not any(_dominates(other, one) for other in kept):
                kept.append(one)
        return kept


def _is_better(one: _Configuration, seen: dict[tuple[int, int], list[_Configuration]]) -> bool:
    """Keep ``one`` in ``seen``, unless something there can do all that it can."""
    others = seen.setdefault((one[0], one[2]), [])
    if any(_dominates(other, one) for other in others):
        return False
    others.append(one)
    return True


def _dominates(one: _Configuration, other: _Configuration) -> bool:
    return (
        one[0] == other[0]
        and one[1] <= other[1]
        and one[2] == other[2]
        and all(mine <= its for mine, its in zip(one[3], other[3], strict=True))
        and one[4] | other[4] == one[4]
    )
