"""The schemas are the public protocol: documented, pinned, and in step with the program."""

from __future__ import annotations

import re
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

import pytest

from shardraft.errors import ErrorCode
from shardraft.kv.requests import Consistency
from shardraft.shards.shard_map import Partitioning
from shardraft.wire import hello
from shardraft.wire.links import LINK_KINDS
from shardraft.wire.records import PEER_KINDS
from shardraft.wire.schema import load

SCHEMAS = sorted((Path(__file__).parents[2] / "schema").glob("*.capnp"))
IDS = {
    "client": 0xD91ABC5BD32B38EB,
    "common": 0xB4BDDE183E588DA7,
    "peer": 0xACD19E897D3CD5DA,
    "stored": 0x815880111980BB25,
}


def test_file_ids_are_pinned() -> None:
    assert {path.stem: path.read_text().splitlines()[0] for path in SCHEMAS} == {
        name: f"@{number:#x};" for name, number in IDS.items()
    }


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.stem)
def test_everything_declared_has_a_comment_below_it(path: Path) -> None:
    lines = path.read_text().splitlines()
    declared = re.compile(r"\s*((struct|enum|const) |\w+ @\d+)")
    bare = [
        line
        for line, following in zip(lines, [*lines[1:], ""], strict=True)
        if declared.match(line) and not following.strip().startswith("#")
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("file", "name", "enum", "unset"),
    [
        ("common", "ErrorCode", ErrorCode, {"none"}),
        ("common", "Role", hello.Role, set()),
        ("common", "Partitioning", Partitioning, {"unset"}),
        ("client", "Consistency", Consistency, {"bounded", "atLeast"}),
    ],
)
def test_enumerants_have_the_numbers_of_the_program(file: str, name: str, enum: type[IntEnum], unset: set[str]) -> None:
    in_schema = getattr(load(file), name).schema.enumerants
    snake = {
        re.sub(r"([A-Z])", r"_\1", word).upper(): number for word, number in in_schema.items() if word not in unset
    }
    assert snake == {member.name: member.value for member in enum}


def test_the_constants_have_the_values_of_the_program() -> None:
    assert load("common").magic == hello.MAGIC
    assert load("common").protocolVersion == hello.PROTOCOL_VERSION


def test_kinds_of_messages_have_the_numbers_that_the_schema_documents() -> None:
    text = (SCHEMAS[0].parent / "peer.capnp").read_text()
    table = text[text.index("Kinds, never reused:") : text.index("# Records are little-endian")]
    documented = {name: int(number) for number, name in re.findall(r"(\d+) ([a-z]\w+)", table)}
    kinds = {**PEER_KINDS, **LINK_KINDS}
    assert documented == {cls.__name__[0].lower() + cls.__name__[1:]: kind.number for cls, kind in kinds.items()}


def test_the_import_hook_of_pycapnp_is_gone() -> None:
    load("client")
    assert not any("capnp" in type(finder).__module__ for finder in sys.meta_path)


def modules_after_importing(module: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("module", ["client", "framing", "hello"])
def test_a_client_needs_neither_trio_nor_lmdb_nor_raft(module: str) -> None:
    imported = modules_after_importing(f"shardraft.wire.{module}")
    assert imported & {"trio", "lmdb", "shardraft.raft", "shardraft.host"} == set()
    assert f"shardraft.wire.{module}" in imported


def test_framing_needs_no_capnp() -> None:
    assert "capnp" not in modules_after_importing("shardraft.wire.framing")
