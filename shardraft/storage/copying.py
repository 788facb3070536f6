"""The copies of one host: those it spools to send, and those it stages to install."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shardraft.errors import CopyRefused, StorageError
from shardraft.kv.machine import MachineState
from shardraft.kv.records import check_record
from shardraft.storage.copies import (
    ChunkFile,
    Manifest,
    Record,
    add_to_digest,
    check_chunk,
    decode_manifest,
    decode_records,
    encode_manifest,
    encode_records,
)
from shardraft.storage.state import KEYS, StateEnvironment
from shardraft.types import Index, ShardId, Term


class OutgoingCopies:
    """Snapshots by copy id. ``spool`` and ``drop`` may run on any one thread, ``read`` on the loop."""

    def __init__(self, directory: Path, state: StateEnvironment, chunk_bytes: int) -> None:
        self._directory = directory
        self._state = state
        self._chunk_bytes = chunk_bytes
        self._copies: dict[int, ChunkFile] = {}

    def spool(self, shard: ShardId, copy_id: int) -> tuple[Index, Term, int]:
        """Write the flushed state of a shard to a file, from one read transaction; its index, term and chunks.

        Raises ``StorageError``, also when a record on the way is damaged: damage is not passed on.
        """
        assert copy_id not in self._copies, "a copy id is used once"
        file = ChunkFile(self._directory / f"outgoing-{copy_id}")
        try:
            manifest = self._spool_into(file, shard)
        except BaseException:
            file.remove()
            raise
        self._copies[copy_id] = file
        return manifest.state.last_applied, manifest.state.last_applied_term, manifest.chunks

    def _spool_into(self, file: ChunkFile, shard: ShardId) -> Manifest:
        keys = digest = 0
        with self._state.reading(KEYS) as transaction:
            state = self._state.read_machine(transaction, shard)
            if state is None:
                raise StorageError(f"{self._state.path} holds no shard {shard}, so it cannot be copied")
            records = _checked(self._state.records(transaction, shard))
            for number, (chunk, count) in enumerate(encode_records(records, self._chunk_bytes), 1):
                file.write(number, chunk)
                keys += count
                digest = add_to_digest(digest, chunk)
        manifest = Manifest(state, len(file) + 1, keys, digest)
        file.write(0, encode_manifest(manifest))
        return manifest

    def read(self, copy_id: int, number: int) -> bytes:
        """One chunk. Raises ``StorageError`` when there is no such copy or chunk, or the disk changed it."""
        file = self._copies.get(copy_id)
        if file is None:
            raise StorageError(f"{self._directory} holds no copy {copy_id}")
        chunk = file.read(number)
        try:
            check_chunk(chunk, number)
        except CopyRefused as error:
            raise StorageError(f"{file.path}: {error}; the disk changed it: check the disk") from error
        return chunk

    def drop(self, copy_id: int) -> None:
        file = self._copies.pop(copy_id, None)
        if file is not None:
            file.remove()

    def close(self) -> None:
        for copy_id in list(self._copies):
            self.drop(copy_id)


def _checked(records: Iterator[Record]) -> Iterator[Record]:
    for key, record in records:
        check_record(key, record)
        yield key, record


class _Staged:
    """The chunks received so far of one copy; ``manifest`` is chunk 0."""

    __slots__ = ("digest", "file", "manifest")

    def __init__(self, file: ChunkFile, manifest: Manifest) -> None:
        self.file = file
        self.manifest = manifest
        self.digest = 0


class IncomingCopies:
    """At most one staged copy per shard. Belongs to the state's thread."""

    def __init__(self, directory: Path, state: StateEnvironment, chunk_bytes_max: int) -> None:
        self._directory = directory
        self._state = state
        self._chunk_bytes_max = chunk_bytes_max
        self._staged: dict[ShardId, _Staged] = {}

    def stage(self, shard: ShardId, number: int, data: bytes) -> None:
        """Keep one chunk: 0 starts anew, any other follows the last. Raises ``CopyRefused`` and forgets the copy."""
        try:
            if len(data) > self._chunk_bytes_max:
                raise CopyRefused(f"chunk {number} of a copy has {len(data)} bytes, {self._chunk_bytes_max} at most")
            if number == 0:
                self._begin(shard, data)
            else:
                self._continue(shard, number, data)
        except CopyRefused:
            self.forget(shard)
            raise

    def _begin(self, shard: ShardId, data: bytes) -> None:
        self.forget(shard)
        manifest = decode_manifest(data)
        if manifest.state.shard != shard:
            raise CopyRefused(f"a copy of shard {manifest.state.shard} came for shard {shard}")
        file = ChunkFile(self._directory / f"incoming-{shard}")
        file.write(0, data)
        self._staged[shard] = _Staged(file, manifest)

    def _continue(self, shard: ShardId, number: int, data: bytes) -> None:
        staged = self._staged.get(shard)
        if staged is None or number != len(staged.file):
            expected = 0 if staged is None else len(staged.file)
            raise CopyRefused(f"chunk {number} of a copy of shard {shard} came where chunk {expected} belongs")
        if number >= staged.manifest.chunks:
            raise CopyRefused(f"a copy of shard {shard} has more chunks than the {staged.manifest.chunks} it announced")
        check_chunk(data, number)
        staged.file.write(number, data)
        staged.digest = add_to_digest(staged.digest, data)

    def install(self, shard: ShardId, index: Index, term: Term) -> MachineState:
        """Put the staged copy in place of the shard's state. Raises ``CopyRefused``; the old state then stays."""
        staged = self._staged.get(shard)
        if staged is None:
            raise CopyRefused(f"no copy of shard {shard} is staged")
        try:
            _check_whole(staged, index, term)
            self._state.replace_shard(staged.manifest.state, _records(staged))
        finally:
            self.forget(shard)
        return staged.manifest.state

    def forget(self, shard: ShardId) -> None:
        """Drop what is staged of ``shard``, if anything."""
        staged = self._staged.pop(shard, None)
        if staged is not None:
            staged.file.remove()

    def close(self) -> None:
        for shard in list(self._staged):
            self.forget(shard)


def _check_whole(staged: _Staged, index: Index, term: Term) -> None:
    manifest = staged.manifest
    state = manifest.state
    if (state.last_applied, state.last_applied_term) != (index, term):
        raise CopyRefused(
            f"the copy of shard {state.shard} is of index {state.last_applied} in term {state.last_applied_term}, "
            f"wanted was {index} in term {term}"
        )
    if len(staged.file) != manifest.chunks or staged.digest != manifest.digest:
        raise CopyRefused(
            f"the copy of shard {state.shard} is not whole: {len(staged.file)} of {manifest.chunks} chunks, "
            f"digest {staged.digest:08x}, announced {manifest.digest:08x}"
        )


def _records(staged: _Staged) -> Iterator[list[Record]]:
    """The records of a staged copy, chunk by chunk, read back and checked once more."""
    manifest = staged.manifest
    last, keys = b"", 0
    for number in range(1, manifest.chunks):
        records = decode_records(staged.file.read(number), number)
        for key, _ in records:
            if key <= last:
                raise CopyRefused(f"the keys of a copy of shard {manifest.state.shard} do not ascend")
            last = key
        for key in (records[0][0], records[-1][0]) if records else ():
            if not manifest.state.key_range.holds(key):
                raise CopyRefused(f"a copy of shard {manifest.state.shard} holds a key outside its range")
        keys += len(records)
        yield records
    if keys != manifest.keys:
        raise CopyRefused(f"a copy of shard {manifest.state.shard} has {keys} keys, announced were {manifest.keys}")
