"""Endpoints as people write them."""

from __future__ import annotations

import pytest

from shardraft.errors import InvalidArgument
from shardraft_router.endpoints import parse_endpoints


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("h1:7001", ("h1:7001",)),
        ("shardraft://h1:7001,h2:7002", ("h1:7001", "h2:7002")),
        ("shardraft://h1:7001/", ("h1:7001",)),
        (" h1:7001 , h2:7002 ,", ("h1:7001", "h2:7002")),
        (["h1:7001", "h2:7002"], ("h1:7001", "h2:7002")),
        (("shardraft://h1:7001", "h2:7002,h3:7003"), ("h1:7001", "h2:7002", "h3:7003")),
        (["h1:7001", "h1:7001"], ("h1:7001",)),
        ("[::1]:7001", ("[::1]:7001",)),
        ("127.0.0.1:1,127.0.0.1:65535", ("127.0.0.1:1", "127.0.0.1:65535")),
    ],
)
def test_endpoints_are_a_url_a_list_in_text_or_a_sequence(given: str | list[str], meant: tuple[str, ...]) -> None:
    assert parse_endpoints(given) == meant


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("", "no endpoint"),
        ([], "no endpoint"),
        ("shardraft://", "no endpoint"),
        ("h1", "HOST:PORT"),
        (":7001", "HOST:PORT"),
        ("h1:", "names no port"),
        ("h1:0", "names no port"),
        ("h1:65536", "names no port"),
        ("h1:seven", "names no port"),
        ("h1:-1", "names no port"),
        ("h1:\u0661", "names no port"),
        ("::1:7001", "HOST:PORT"),
        ("http://h1:7001", "HOST:PORT"),
        ("user@h1:7001", "HOST:PORT"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_what_is_wrong(given: str | list[str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        parse_endpoints(given)


def test_an_endpoint_must_be_text() -> None:
    with pytest.raises(TypeError, match="not bytes"):
        parse_endpoints([b"h1:7001"])  # type: ignore[list-item]
