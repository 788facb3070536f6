"""A configuration file changes what it names, and a mistake in it is told in a sentence."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from shardraft.config import HostConfig, Limits, RaftConfig
from shardraft.errors import InvalidArgument
from shardraft.server.config_file import read_config


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.toml"


def test_what_is_not_named_keeps_its_default(path: Path) -> None:
    path.write_text("[limits]\nlog_bytes_max = 1_000_000\n\n[raft]\nelection_timeout_ms = 2000\n")
    assert read_config(path) == HostConfig(
        limits=Limits(log_bytes_max=1_000_000), raft=RaftConfig(election_timeout_ms=2000)
    )


def test_an_empty_file_changes_nothing(path: Path) -> None:
    path.write_text("")
    assert read_config(path) == HostConfig()


def test_every_limit_can_be_named(path: Path) -> None:
    parts = attrs.asdict(HostConfig())
    path.write_text("\n".join(f"[{part}]\n" + "\n".join(map(" = ".join, _told(parts[part]))) for part in parts))
    assert read_config(path) == HostConfig()


def _told(values: dict[str, int]) -> list[tuple[str, str]]:
    return [(name, str(value)) for name, value in values.items()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[limits]\nlog_byte_max = 1", "no such name in [limits]: log_byte_max; did you mean log_bytes_max?"),
        ("[limitz]", "no such table: limitz; did you mean limits?"),
        ("colour = 1", "no such table: colour"),
        ("limits = 1", "limits is a table: write [limits] above its values"),
        ("[limits]\nkey_bytes_max = 0", "'key_bytes_max' must be > 0: 0"),
        ("[limits]\nkey_bytes_max = 1.5", "key_bytes_max in [limits] is a whole number, not 1.5"),
        ("[limits]\nkey_bytes_max = true", "key_bytes_max in [limits] is a whole number, not True"),
        ("[raft]\nheartbeat_ms = 400", "election_timeout_ms must be at least three times heartbeat_ms"),
        ("[[", "Invalid"),
    ],
)
def test_a_mistake_is_told(path: Path, text: str, said: str) -> None:
    path.write_text(text)
    with pytest.raises(InvalidArgument) as told:
        read_config(path)
    assert str(told.value).startswith(f"{path}: {said}")


def test_bytes_that_are_no_text_are_told(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match="utf-8"):
        read_config(path)
