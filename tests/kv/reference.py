"""What the machine must equal: a plain dict, and a memory of every operation's first result that never forgets."""

from __future__ import annotations

from shardraft.kv.commands import ANY_REVISION, PUT, Batch, Outcome
from shardraft.shards.keyspace import KeyRange

Identity = tuple[bytes, int, int]
"""Session, sequence of the batch first sent, position in it."""
Told = tuple[Outcome, int, int]
"""Outcome, revision, found revision."""
Values = dict[bytes, tuple[int, bytes]]


class Reference:
    """One operation at a time, as the words of PROTOCOL say; no windows, no columns, no buffers."""

    def __init__(self, key_range: KeyRange) -> None:
        self.key_range = key_range
        self.values: Values = {}
        self.revision = 0
        self.told: dict[Identity, Told] = {}
        self.turned_away: dict[Identity, Told] = {}
        """Of atomic batches that the range did not hold: not applied, so they may come back."""

    def apply(self, batch: Batch) -> list[Told]:
        positions = batch.positions or range(len(batch.keys))
        identities = [(batch.session, batch.sequence, position) for position in positions]
        if batch.atomic:
            return self._apply_atomic(batch, identities)
        pending = [place for place, identity in enumerate(identities) if self._may_apply(identity, batch.keys[place])]
        for place in pending:
            self.revision += 1
            self.told[identities[place]] = self._operate(self.values, batch, place, self.revision)
        return [self.told[identity] for identity in identities]

    def _apply_atomic(self, batch: Batch, identities: list[Identity]) -> list[Told]:
        is_inside = all(map(self.key_range.holds, batch.keys))
        if identities[0] in self.told:
            return [self.told[identity] for identity in identities]
        if identities[0] in self.turned_away and not is_inside:
            return [self.turned_away[identity] for identity in identities]
        attempt = dict(self.values)
        first = self.revision + 1
        self.revision += len(batch.keys)
        if not is_inside:
            for place, key in enumerate(batch.keys):
                outcome = Outcome.ABORTED if self.key_range.holds(key) else Outcome.WRONG_SHARD
                self.turned_away[identities[place]] = (outcome, first + place, 0)
            return [self.turned_away[identity] for identity in identities]
        results: list[Told] = []
        for place in range(len(batch.keys)):
            results.append(self._operate(attempt, batch, place, first + place))
            if results[-1][0] is Outcome.CONFLICT:
                results = [(Outcome.ABORTED, first + other, 0) for other in range(len(batch.keys))]
                results[place] = self._operate(attempt, batch, place, first + place)
                attempt = self.values
                break
        self.values = attempt
        self.told.update(zip(identities, results, strict=True))
        return results

    def _may_apply(self, identity: Identity, key: bytes) -> bool:
        told = self.told.get(identity)
        return told is None or (told[0] is Outcome.WRONG_SHARD and self.key_range.holds(key))

    def _operate(self, values: Values, batch: Batch, place: int, revision: int) -> Told:
        key = batch.keys[place]
        if not self.key_range.holds(key):
            return Outcome.WRONG_SHARD, revision, 0
        condition = batch.conditions[place] if batch.conditions else ANY_REVISION
        found = values[key][0] if key in values else 0
        if condition != ANY_REVISION and condition != found:
            return Outcome.CONFLICT, revision, found
        if batch.kinds[place] == PUT:
            values[key] = (revision, batch.values[place])
            return Outcome.WRITTEN, revision, 0
        if values.pop(key, None) is None:
            return Outcome.MISSING, revision, 0
        return Outcome.DELETED, revision, 0
