"""The command line as a person meets it before any cluster runs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardraft.cli import main
from shardraft.cli.common import standard_output
from shardraft.cli.failures import exit_code_of, leaf_of, line_of
from shardraft.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    PartialWrite,
    SessionExpired,
    ShardraftError,
    StorageError,
    TooLarge,
    Unavailable,
)

Captured = pytest.CaptureFixture[str]


def test_help_answers_within_three_tenths_of_a_second() -> None:
    def once() -> float:
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "shardraft", "--help"], check=True, capture_output=True)
        return time.monotonic() - started

    assert min(once() for _ in range(5)) < 0.3


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = "import sys; from shardraft.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(ran.stderr.split())
    assert "click" in loaded
    assert loaded.isdisjoint({"trio", "asyncio", "anyio", "lmdb", "capnp", "rich", "attrs", "shardraft.cli.data"})


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_explains_itself(name: str, capsys: Captured) -> None:
    assert main.run([name, "--help"]) == 0
    assert f"Usage: shardraft {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_is_listed_with_what_it_does(name: str, capsys: Captured) -> None:
    main.run(["--help"])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith(f"{name} "))
    assert line.endswith(".")


def test_the_version_is_the_package_version(capsys: Captured) -> None:
    from shardraft import __version__

    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"shardraft {__version__}, plain Python\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats"], "no such command: stats; did you mean status?"),
        (["get"], "Missing argument 'KEY'"),
        (["get", "k", "--endpoint", "nowhere"], "nowhere is not of the form HOST:PORT"),
        (["get", "k", "--endpoint", ","], "--endpoint names no host"),
        (["get", "!", "--base64", "--endpoint", "a:1"], "not base64: !"),
        (["put", "k", "--endpoint", "a:1"], "give either a VALUE or --file"),
        (["put", "k", "v", "--if-absent", "--if-revision", "3", "--endpoint", "a:1"], "exclude each other"),
        (["host", "--id", "1"], "Missing option"),
        (["dev", "--hosts", "2"], "a group has 1, 3 or 5 voters"),
        (["dev", "--learners", "0,2"], "a tier below an empty tier has no parents"),
        (["dev", "--learners", "two"], "is not a list of numbers"),
        (["import", "/no/such/file", "--endpoint", "a:1"], "does not exist"),
        (["--nope"], "No such option"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: Captured
) -> None:
    assert main.run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert said in captured.err


def test_without_a_cluster_to_be_found_the_line_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("SHARDRAFT_ENDPOINT", raising=False)
    assert main.run(["get", "k"]) == 2
    assert "start a local one with: shardraft dev" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Conflict(), 1),
        (InvalidArgument("no"), 2),
        (TooLarge("no"), 2),
        (Unavailable("nobody"), 3),
        (DeadlineExceeded("late"), 3),
        (DeadlineExceeded("late", applied="unknown"), 4),
        (Unavailable("gone", applied="unknown"), 4),
        (SessionExpired(), 4),
        (PartialWrite({}, {b"a": Conflict()}, {}), 1),
        (PartialWrite({}, {b"a": Conflict(), b"b": Unavailable("nobody")}, {}), 3),
        (PartialWrite({b"c": 1}, {b"a": Conflict()}, {b"b": DeadlineExceeded("late")}), 4),
    ],
)
def test_exit_codes_tell_refused_usage_unavailable_and_unknown_apart(error: ShardraftError, code: int) -> None:
    assert exit_code_of(error) == code


def test_an_unknown_outcome_is_said() -> None:
    assert "may have been applied" in line_of(Unavailable("connection lost", applied="unknown"))
    assert line_of(Unavailable("connection\nlost")) == "connection lost"


def test_of_several_errors_the_one_that_matters_most_is_reported() -> None:
    known, unknown, interrupt = Conflict(), Unavailable("gone", applied="unknown"), KeyboardInterrupt()
    assert leaf_of(ExceptionGroup("", [known, ExceptionGroup("", [unknown])])) is unknown
    assert leaf_of(BaseExceptionGroup("", [unknown, interrupt])) is interrupt
    bug = KeyError("bug")
    assert leaf_of(ExceptionGroup("", [unknown, bug])) is bug


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (StorageError("the disk belongs to host 2"), 1, "error: the disk belongs to host 2\n"),
        (PermissionError(13, "Permission denied", "/data"), 1, "error: /data: Permission denied\n"),
        (ExceptionGroup("", [Unavailable("nobody answers")]), 3, "error: nobody answers\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_an_expected_error_is_one_line(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise raised

    monkeypatch.setattr(main.group, "main", fail)
    assert main.run([]) == code
    assert capsys.readouterr().err == said


def test_a_closed_standard_output_is_no_crash() -> None:
    command = f"{sys.executable} -m shardraft --version >&-"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_bytes_for_a_closed_standard_output_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OSError, match="standard output is closed"):
        standard_output()


def test_a_bug_leaves_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(main.group, "main", fail)
    with pytest.raises(KeyError):
        main.run([])
