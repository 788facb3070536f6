"""Every transcript in ``scenarios/`` happens exactly as it is written there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.raft.transcript import play

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) >= 8


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    text = path.read_text()
    played = play(text)
    if os.environ.get("REWRITE") == "1":
        path.write_text(played)
    else:
        assert played == text
