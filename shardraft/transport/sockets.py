"""What is particular to TCP: where it is safe to listen, how to connect, and when to give a silent line up."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

import trio

from shardraft.config import TransportConfig
from shardraft.errors import InvalidArgument
from shardraft.types import Endpoint

_KEEPALIVE_IDLE_SECONDS: Final = 30
_KEEPALIVE_INTERVAL_SECONDS: Final = 10


def check_listen_address(host: str, *, insecure: bool) -> None:
    """Refuse to listen where others than this machine can connect, unless ``insecure`` (DESIGN promise 7).

    Raises ``InvalidArgument``. A name other than "localhost" counts as reachable by others, since what it
    resolves to can change; so does the empty name, which is every address.
    """
    if insecure or _is_loopback(host):
        return
    raise InvalidArgument(
        f"refusing to listen on {host or 'every address'}: anybody who can reach it could read and write everything, "
        "for there is no TLS yet; listen on 127.0.0.1, or say --insecure on a network that you trust"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


async def open_listeners(endpoint: Endpoint, *, insecure: bool = False) -> list[trio.SocketListener]:
    """Listen on every address of ``endpoint``; port 0 takes a free one (see ``bound_endpoint``).

    Raises ``InvalidArgument`` as ``check_listen_address`` does, and ``OSError`` when the port is taken.
    """
    check_listen_address(endpoint.host, insecure=insecure)
    return await trio.open_tcp_listeners(endpoint.port, host=endpoint.host or None)


def bound_endpoint(listener: trio.SocketListener) -> Endpoint:
    """Where a listener listens."""
    address = listener.socket.getsockname()
    return Endpoint(address[0], address[1])


async def connect_tcp(endpoint: Endpoint, timing: TransportConfig) -> trio.SocketStream:
    """A connection to ``endpoint``, whose name is resolved anew each time. Raises ``OSError``."""
    stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    if stream.socket.getsockname() == stream.socket.getpeername():
        # TCP lets a socket connect to itself when nobody listens on a port of the ephemeral range; that would
        # also keep the host that belongs there from listening.
        await trio.aclose_forcefully(stream)
        raise OSError(errno.ECONNREFUSED, "nobody listens there")
    tune(stream, timing)
    return stream


def tune(stream: trio.SocketStream, timing: TransportConfig) -> None:
    """Make the kernel give a dead line up: after a cut it would retransmit more and more rarely for minutes."""
    with suppress(OSError):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timing.unacknowledged_ms_max)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE_SECONDS)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL_SECONDS)


def why_not_connected(error: Exception) -> str:
    """Why ``connect_tcp`` failed or took too long, in the operating system's words."""
    cause: BaseException = error
    while (deeper := cause.exceptions[0] if isinstance(cause, BaseExceptionGroup) else cause.__cause__) is not None:
        cause = deeper  # An attempt per address: trio reports them as a group behind an error of its own.
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno)
    return str(cause) or "no answer"


def remote_name(stream: trio.abc.Stream) -> str:
    """The other side of a stream for a person; "" when it is no socket or gone already."""
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        address = stream.socket.getpeername()
    except OSError:
        return ""
    return str(Endpoint(str(address[0]), address[1])) if isinstance(address, tuple) else ""
