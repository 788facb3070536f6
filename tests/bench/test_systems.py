"""What the adapters say of themselves, and the formats that they read and write by hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.harness.rows import Cluster
from bench.profile_puts import stacks_by_thread
from bench.systems import all_systems, find_system
from bench.systems import etcd_messages as messages
from bench.systems.redis_benchmark import _single
from bench.systems.slow_sync import slow_down
from shardraft.storage.environment import META, Environment


def test_every_system_says_what_it_promises_and_needs() -> None:
    for name, system in all_systems().items():
        assert system.name == name
        assert system.promise
        assert system.promise_in_full.endswith(".")
        assert system.subject(Cluster())
        assert system.missing() is None or "installed" in (system.missing() or "")


def test_those_that_do_not_sync_each_write_say_so() -> None:
    silent = {name for name, system in all_systems().items() if "no fsync" in system.promise}
    assert silent == {"nats", "pysyncobj", "pysyncobj-at-once"}
    assert find_system("redis").promise == "fsync on the primary alone"


def test_the_subject_of_shardraft_names_hosts_shards_learners_and_delay() -> None:
    subject = find_system("shardraft").subject(Cluster(members=1, shards=64, readers=2, sync_delay_ms=5))
    assert subject == "1 host, 64 shards, 2 learners, 5 ms added to each sync"


def test_a_put_of_etcd_is_protobuf() -> None:
    assert messages.put_request(b"k", b"v" * 200) == b"\x0a\x01k\x12\xc8\x01" + b"v" * 200


def test_gets_and_ranges_of_etcd_are_protobuf() -> None:
    assert messages.get_request(b"k") == b"\x0a\x01k"
    assert messages.get_request(b"k", serializable=True) == b"\x0a\x01k\x38\x01"
    assert messages.range_request(b"", 300) == b"\x0a\x01\x00\x12\x01\x00\x18\xac\x02"
    assert messages.txn_request([b"\x0a\x01k"], puts=False) == b"\x12\x05\x0a\x03\x0a\x01k"


def test_answers_of_etcd_are_read() -> None:
    entry = b"\x0a\x01k\x10\x05\x2a\x01v"
    answer = b"\x0a\x02\x18\x07\x12" + bytes([len(entry)]) + entry + b"\x20\x01"
    assert messages.read_entries(answer) == [(b"k", b"v")]
    response = b"\x0a" + bytes([len(answer)]) + answer
    txn = b"\x10\x01\x1a" + bytes([len(response)]) + response + b"\x1a\x02\x0a\x00"
    assert messages.read_txn_entries(txn) == [[(b"k", b"v")], []]
    status = b"\x0a\x05\x10\x81\x01\x18\x09\x12\x033.5\x20\x81\x01"
    assert messages.read_status(status) == messages.EtcdStatus(member=129, leader=129, revision=9)
    with pytest.raises(ValueError, match="field 1 is of a kind"):
        messages.read_entries(b"\x09" + bytes(8))


def test_cumulative_counts_become_single_ones() -> None:
    assert _single([(0.1, 5), (0.2, 8), (0.2, 8), (0.3, 10), (0.4, 10)]) == [(0.1, 5), (0.2, 3), (0.3, 2)]


def test_stacks_are_counted_once_per_function_and_thread() -> None:
    text = """thread (1): Main;run (a/b.py:3);run (a/b.py:9);put (c.py:1) 5
thread (1): Main;run (a/b.py:4) 2
thread (2): disk;sync (d.py:7) 1"""
    found = stacks_by_thread(text)
    assert found["Main"] == (7, {"run (a/b.py)": 7, "put (c.py)": 5})
    assert found["disk"] == (1, {"sync (d.py)": 1})


def test_the_slower_disk_delays_every_synced_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Environment, "writing", Environment.writing)  # Put back at the end of the test.
    environment = Environment(tmp_path / "data", b"test", (b"one",), 1 << 20, create=True)
    slow_down(0.02)
    begun = time.monotonic()
    with environment.writing() as transaction:
        transaction.put(b"key", b"value", db=environment.database(b"one"))
    assert time.monotonic() - begun >= 0.02
    with environment.reading(b"one") as reading:
        assert reading.get(b"key") == b"value"
    environment.close()
    assert META
