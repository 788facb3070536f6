"""JSON lines carry any key and value there and back, and refuse what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardraft.cli.common import parse_endpoint, shown
from shardraft.cli.records import parse_record, record_line


@given(st.binary(), st.binary())
def test_any_record_comes_back_byte_for_byte(key: bytes, value: bytes) -> None:
    assert parse_record(record_line(key, value)) == (key, value)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_text_stays_text(text: str) -> None:
    assert json.loads(record_line(b"k", text.encode())) == {"key": "k", "value": text}


@given(st.binary(), st.binary())
def test_a_record_is_one_line(key: bytes, value: bytes) -> None:
    assert record_line(key, value).count(b"\n") == 1


def test_what_is_not_utf8_is_base64() -> None:
    assert record_line(b"\xff", b"v") == b'{"key_base64": "/w==", "value": "v"}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"7", "not a JSON object"),
        (b"{}", "either key or key_base64"),
        (b'{"key": "a", "key_base64": "YQ==", "value": ""}', "either key or key_base64"),
        (b'{"key": "a"}', "either value or value_base64"),
        (b'{"key": 1, "value": ""}', "key is not a string"),
        (b'{"key": "a", "value_base64": "?"}', "value is not base64"),
        (b'{"key": "\\ud800", "value": ""}', "key is not text"),
    ],
)
def test_what_is_no_record_is_refused_with_a_reason(line: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_record(line)


@given(st.binary())
def test_what_is_shown_to_a_person_is_one_printable_line(data: bytes) -> None:
    assert shown(data).isprintable()


@pytest.mark.parametrize(
    ("text", "host", "port"), [("a:1", "a", 1), ("[::1]:7400", "::1", 7400), (" b:65535", "b", 65535)]
)
def test_an_endpoint_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    found = parse_endpoint(text)
    assert (found.host, found.port) == (host, port)
    assert parse_endpoint(str(found)) == found


@pytest.mark.parametrize("text", ["", "a", ":1", "a:", "a:0", "a:65536", "a:x", "a:-1"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not of the form HOST:PORT"):
        parse_endpoint(text)
