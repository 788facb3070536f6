"""The linearizability checker: named histories, brute force, and speed."""

from __future__ import annotations

import itertools
from random import Random

import attrs
import pytest

from shardraft.kv.commands import ABSENT, ANY_REVISION, Outcome
from shardraft.sim.history import Operation, OperationKind
from shardraft.sim.linearizable import Verdict, check, check_key

KEY = b"k"


def put(
    value: str, called: int, returned: int | None, revision: int = 0, *, if_revision: int = ANY_REVISION
) -> Operation:
    outcome = None if returned is None else Outcome.WRITTEN
    return Operation(KEY, OperationKind.PUT, called, returned, value.encode(), if_revision, outcome, revision)


def refused(value: str, called: int, returned: int, found: int, *, if_revision: int) -> Operation:
    return Operation(KEY, OperationKind.PUT, called, returned, value.encode(), if_revision, Outcome.CONFLICT, found)


def get(value: str | None, called: int, returned: int, revision: int = 0) -> Operation:
    return Operation(
        KEY, OperationKind.GET, called, returned, None if value is None else value.encode(), revision=revision
    )


def delete(called: int, returned: int | None, revision: int = 0) -> Operation:
    outcome = None if returned is None else Outcome.DELETED if revision else Outcome.MISSING
    return Operation(KEY, OperationKind.DELETE, called, returned, outcome=outcome, revision=revision)


GOOD = {
    "an absent key is read": [get(None, 1, 2)],
    "a read sees the write before it": [put("a", 1, 2, 1), get("a", 3, 4, 1)],
    "a read beside a write sees the old": [put("a", 1, 4, 1), get(None, 2, 3)],
    "a read beside a write sees the new": [put("a", 1, 4, 1), get("a", 2, 3, 1)],
    "writes side by side take effect in the order of their revisions": [
        put("a", 1, 10, 2),
        put("b", 2, 9, 1),
        get("a", 11, 12, 2),
    ],
    "an unknown write is seen later": [put("a", 1, None), get(None, 2, 3), get("a", 4, 5, 7)],
    "an unknown write is never seen": [put("a", 1, None), put("b", 2, 3, 1), get("b", 4, 5, 1)],
    "an unknown write explains a conflict": [
        put("a", 1, 2, 1),
        put("b", 3, None),
        refused("c", 4, 5, 9, if_revision=1),
    ],
    "an unknown write explains a delete": [put("a", 1, None), delete(2, 3, 5), get(None, 4, 5)],
    "an unknown delete explains an absence": [put("a", 1, 2, 1), delete(3, None), get(None, 4, 5)],
    "an unknown delete takes effect between two reads": [
        put("a", 1, 2, 1),
        delete(3, None),
        get("a", 4, 5, 1),
        get(None, 6, 7),
    ],
    "a conditional write meets its condition": [put("a", 1, 2, 1), put("b", 3, 4, 2, if_revision=1)],
    "a write if absent after a delete": [put("a", 1, 2, 1), delete(3, 4, 2), put("b", 5, 6, 3, if_revision=ABSENT)],
    "a call and a return of equal position are concurrent": [put("a", 1, 2, 1), get(None, 2, 3)],
}

BAD = {
    "a stale read": [put("a", 1, 2, 1), put("b", 3, 4, 2), get("a", 5, 6, 1)],
    "an acknowledged write is lost": [put("a", 1, 2, 1), get(None, 3, 4)],
    "reads go back": [put("a", 1, 20, 1), get("a", 2, 3, 1), get(None, 4, 5)],
    "a value that nobody wrote": [get("a", 1, 2, 1)],
    "a value at another revision than its write's": [put("a", 1, 2, 1), get("a", 3, 4, 2)],
    "revisions against real time": [put("a", 1, 2, 2), put("b", 3, 4, 1)],
    "two writes share a revision": [put("a", 1, 5, 1), put("b", 2, 6, 1)],
    "a compare-and-set that overwrote what it had not seen": [
        put("a", 1, 2, 1), put("b", 3, 4, 2), put("c", 5, 6, 3, if_revision=1)
    ],
    "a lost update": [
        put("a", 1, 2, 1), put("b", 3, 9, 2, if_revision=1), put("c", 4, 8, 3, if_revision=1)
    ],
    "a write if absent over a present key": [put("a", 1, 2, 1), put("b", 3, 4, 2, if_revision=ABSENT)],
    "a delete of nothing deleted": [delete(1, 2, 5)],
    "a conflict with a revision that never was": [put("a", 1, 2, 1), refused("b", 3, 4, 7, if_revision=9)],
    "a conflict although the condition held": [put("a", 1, 2, 1), refused("b", 3, 4, 1, if_revision=1)],
    "an unknown write applied twice": [
        put("a", 1, None), get("a", 2, 3, 1), put("b", 4, 5, 2), get("a", 6, 7, 3)
    ],
    "an unknown write seen before it was called": [get("a", 1, 2, 1), put("a", 3, None)],
    "an unknown write hidden between consecutive revisions": [
        put("a", 1, 2, 1), put("b", 3, None), delete(4, 5, 2), delete(6, 7, 3)
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_legal_history_is_accepted(name: str) -> None:
    assert check_key(GOOD[name]).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize("name", BAD)
def test_an_illegal_history_is_refused_with_a_reason(name: str) -> None:
    finding = check_key(BAD[name])
    assert finding.verdict is Verdict.VIOLATION
    assert finding.key == KEY
    assert finding.reason


def test_keys_are_judged_alone_and_the_bad_one_is_named() -> None:
    good = [attrs.evolve(operation, key=b"good") for operation in GOOD["a read sees the write before it"]]
    bad = [attrs.evolve(operation, key=b"wrong") for operation in BAD["a stale read"]]
    assert check(good).good
    assert check(good + bad).key == b"wrong"


def test_too_many_explanations_are_undecided_and_no_success() -> None:
    history = [put(f"v{number}", number, None) for number in range(40)]
    history += [delete(number, None) for number in range(40)]
    history += [refused(f"w{number}", 50, 100, 1000 + number, if_revision=1) for number in range(12)]
    finding = check_key(history, configurations_max=50)
    assert finding.verdict is Verdict.UNDECIDED
    assert not finding.good


# Brute force: every order of every subset of the unknown writes, every revision they might have had.

REVISIONS = range(1, 9)


def legal(order: list[tuple[Operation, int]]) -> bool:
    """Do these operations, one after the other, obey the register? The number is the write's revision."""
    last, state, value = 0, 0, None
    for operation, revision in order:
        holds = operation.condition in (ANY_REVISION, state)
        if operation.kind is OperationKind.GET:
            if (operation.value, operation.revision) != (value, state):
                return False
        elif operation.outcome is Outcome.CONFLICT:
            if holds or operation.revision != state:
                return False
        elif operation.outcome is Outcome.MISSING:
            if state:
                return False
        else:
            is_put = operation.kind is OperationKind.PUT
            if not holds or revision <= last or (not is_put and not state):
                return False
            last, state, value = revision, (revision if is_put else 0), (operation.value if is_put else None)
    return True


def respects_time(order: tuple[Operation, ...]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.called
        for earlier, later in itertools.combinations(order, 2)
    )


def brute_force(history: list[Operation]) -> bool:
    known = [operation for operation in history if operation.returned is not None]
    unknown = [operation for operation in history if operation.returned is None]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations(known + list(chosen)):
                if respects_time(order) and _some_revisions_fit(order, chosen):
                    return True
    return False


def _some_revisions_fit(order: tuple[Operation, ...], chosen: tuple[Operation, ...]) -> bool:
    for revisions in itertools.product(REVISIONS, repeat=len(chosen)):
        told = {id(operation): revision for operation, revision in zip(chosen, revisions, strict=True)}
        if legal([(operation, told.get(id(operation), operation.revision)) for operation in order]):
            return True
    return False


def random_history(random: Random) -> list[Operation]:
    """A real run of a register with a few clients, of which then, often, something is changed."""
    history: list[Operation] = []
    last, state, value = 0, 0, None
    clock = 0
    for number in range(random.randint(3, 6)):
        effect = clock + random.randint(1, 3)
        called, returned = effect - random.randint(0, 3), effect + random.randint(0, 3)
        clock = effect
        kind = random.choice([OperationKind.GET, OperationKind.PUT, OperationKind.PUT, OperationKind.DELETE])
        condition = random.choice([ANY_REVISION, ANY_REVISION, state, random.randint(0, 4)])
        if kind is OperationKind.GET:
            history.append(Operation(KEY, kind, called, returned, value, revision=state))
            continue
        wrote = b"%d" % number if kind is OperationKind.PUT else None
        unknown = random.random() < 0.35 and sum(each.returned is None for each in history) < 3
        applies = condition in (ANY_REVISION, state) and not (unknown and random.random() < 0.4)
        last += 1
        outcome: Outcome | None = Outcome.CONFLICT
        revision = state
        if kind is OperationKind.DELETE and applies and not state:
            outcome, revision = Outcome.MISSING, 0
        elif applies:
            outcome = Outcome.WRITTEN if wrote else Outcome.DELETED
            state, value, revision = (last, wrote, last) if wrote else (0, None, last)
        elif kind is OperationKind.DELETE and condition == ABSENT:
            continue
        if unknown:
            history.append(Operation(KEY, kind, called, None, wrote, condition))
        else:
            history.append(Operation(KEY, kind, called, returned, wrote, condition, outcome, revision))
    for _ in range(random.choice([0, 1, 2, 3]) if len(history) > 1 else 0):
        _change_something(history, random)
    return history


def _change_something(history: list[Operation], random: Random) -> None:
    place = random.randrange(len(history))
    operation = history[place]
    change = random.randrange(4)
    if change == 0 and operation.returned is not None:
        moved = random.randint(-4, 4)
        operation = attrs.evolve(operation, called=operation.called + moved, returned=operation.returned + moved)
    elif change == 1 and operation.kind is OperationKind.GET:
        other = random.choice(history)
        if other.kind is OperationKind.PUT and other.outcome is not Outcome.CONFLICT:
            revision = other.revision or random.randint(1, 5)
            operation = attrs.evolve(operation, value=other.value, revision=revision)
        else:
            operation = attrs.evolve(operation, value=None, revision=0)
    elif change == 2 and operation.outcome in (Outcome.WRITTEN, Outcome.CONFLICT, Outcome.DELETED):
        operation = attrs.evolve(operation, revision=random.randint(1, 5))
    elif change == 3 and len(history) > 1:
        del history[place]
        return
    history[place] = operation


@pytest.mark.parametrize("seed", range(8))
def test_it_agrees_with_brute_force(seed: int) -> None:
    random = Random(seed)
    verdicts = {True: 0, False: 0}
    for _ in range(250):
        history = random_history(random)
        if not history:
            continue
        expected = brute_force(history)
        verdicts[expected] += 1
        assert check_key(history).good is expected, history
    assert verdicts[True] > 40
    assert verdicts[False] > 20
