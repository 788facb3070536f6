"""Every host remembers the starts that others showed it: who shows an earlier one runs from another disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardraft.errors import ErrorCode, ProtocolError, StorageError
from shardraft.host.met_starts import Start
from shardraft.server.peer_book import PeerBook

MET = Start(5, 77)


@pytest.fixture
def book(tmp_path: Path) -> PeerBook:
    book = PeerBook(tmp_path)
    book.meet(2, MET)
    return book


@pytest.mark.parametrize("shown", [MET, Start(6, 1), Start(600, 77)])
def test_the_same_start_and_later_ones_are_welcome(book: PeerBook, shown: Start) -> None:
    book.meet(2, shown)
    book.meet(2, shown)


@pytest.mark.parametrize("shown", [Start(4, 77), Start(5, 78), Start(0, 0)])
def test_an_earlier_start_or_another_one_of_the_same_number_is_refused(book: PeerBook, shown: Start) -> None:
    with pytest.raises(ProtocolError) as refused:
        book.meet(2, shown)
    assert refused.value.code is ErrorCode.STALE_DISK
    assert "the disk was wiped or is an old copy" in str(refused.value)
    book.meet(2, MET)


def test_it_is_remembered_over_a_restart(book: PeerBook, tmp_path: Path) -> None:
    book.meet(2, Start(6, 1))
    book.meet(3, Start(1, 1))
    again = PeerBook(tmp_path)
    for host, stale in ((2, MET), (3, Start(1, 2))):
        with pytest.raises(ProtocolError):
            again.meet(host, stale)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1, "starts": {"x": [1, 1]}}', '{"format": 1}', "null"])
def test_a_damaged_book_is_refused_with_what_to_do(book: PeerBook, tmp_path: Path, content: str) -> None:
    (tmp_path / "peers.json").write_text(content)
    with pytest.raises(StorageError, match=r"is damaged .* restore it from a backup"):
        PeerBook(tmp_path)


def test_a_book_of_a_newer_format_is_refused(book: PeerBook, tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StorageError, match="has format 2 and this program knows 1: use the newer program"):
        PeerBook(tmp_path)


def test_a_disk_that_does_not_take_it_ends_the_process(book: PeerBook, tmp_path: Path) -> None:
    (tmp_path / "peers.json.tmp").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        book.meet(3, Start(1, 1))
