"""The life of a router: what its context manager promises, and where a router must not be used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator

import anyio
import pytest
import trio

from shardraft.errors import InvalidArgument, ShardraftError, Unavailable
from shardraft.kv.requests import WriteRequest
from shardraft_router import Router, open_router
from tests.router.server import FakeServer, serving


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with serving(shards=1) as server:
        yield server


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), ExceptionGroup("mine", [KeyError(1)])])
async def test_an_error_in_the_body_leaves_as_itself(server: FakeServer, error: BaseException) -> None:
    async def body() -> None:
        async with open_router(server.endpoints) as router:
            await router.put(b"key", b"value")
            raise error

    with pytest.raises(type(error)) as raised:
        await body()
    assert raised.value is error


@pytest.mark.anyio
async def test_an_error_of_a_call_leaves_the_body_as_itself() -> None:
    with pytest.raises(InvalidArgument):
        async with open_router("127.0.0.1:1") as router:
            await router.put(b"", b"value")


@pytest.mark.anyio
async def test_a_cancelled_body_leaves_cancelled(server: FakeServer) -> None:
    with anyio.CancelScope() as scope:
        async with open_router(server.endpoints) as router:
            await router.get(b"key")
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


class InterruptedOnce(trio.abc.SocketFactory):
    """Ctrl-C meets the first attempt to connect."""

    def __init__(self) -> None:
        self.attempts = 0

    def socket(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002  # Its name in the base.
        proto: int = -1,
    ) -> trio.socket.SocketType:
        self.attempts += 1
        if self.attempts == 1:
            raise KeyboardInterrupt
        trio.socket.set_custom_socket_factory(None)
        return trio.socket.socket(family, type, proto)


def test_a_ctrl_c_that_meets_a_connection_is_raised_in_the_program_and_the_router_goes_on() -> None:
    heard = []

    async def program() -> None:
        async with serving(shards=1) as server, open_router(server.endpoints) as router:
            factory = InterruptedOnce()
            trio.socket.set_custom_socket_factory(factory)
            with trio.fail_after(5):
                try:
                    await trio.sleep_forever()
                except KeyboardInterrupt:
                    heard.append("the program goes on")
                await router.put(b"key", b"value")
                assert await router.get(b"key") == b"value"
            assert factory.attempts == 2

    trio.run(program)
    assert heard == ["the program goes on"]


@pytest.mark.anyio
async def test_opening_connects_nothing_and_waits_for_nothing() -> None:
    with anyio.fail_after(1):
        async with open_router(["127.0.0.1:1", "192.0.2.1:7001"]):
            pass


@pytest.mark.anyio
async def test_a_router_closes_its_connections(server: FakeServer) -> None:
    async with open_router(server.endpoints) as router:
        await router.put(b"key", b"value")
        await server.connections(3)
    await server.connections(0)


@pytest.mark.anyio
async def test_calls_of_other_tasks_end_when_the_router_is_closed(server: FakeServer) -> None:
    errors: list[ShardraftError] = []

    async def put(router: Router) -> None:
        try:
            await router.put(b"key", b"value")
        except Unavailable as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks, open_router(server.endpoints) as router:
        server.silent = lambda endpoint, request: isinstance(request, WriteRequest)
        tasks.start_soon(put, router)
        await server.seen(WriteRequest)
    (error,) = errors
    assert error.applied == "unknown"
    assert "closed" in str(error)


@pytest.mark.anyio
async def test_a_closed_router_says_so(server: FakeServer) -> None:
    async with open_router(server.endpoints) as router:
        await router.put(b"key", b"value")
    with pytest.raises(RuntimeError, match="closed"):
        await router.get(b"key")
    with pytest.raises(RuntimeError, match="closed"):
        router.scan()


@pytest.mark.anyio
async def test_a_router_is_opened_once(server: FakeServer) -> None:
    opening = open_router(server.endpoints)
    async with opening:
        pass
    with pytest.raises(RuntimeError, match="opened before"):
        async with opening:
            pass


@pytest.mark.anyio
async def test_a_router_in_another_thread_says_so(server: FakeServer, anyio_backend: str) -> None:
    async with open_router(server.endpoints) as router:

        async def get() -> None:
            await router.get(b"key")

        with pytest.raises(RuntimeError, match=r"another (thread|event loop)"):
            await anyio.to_thread.run_sync(lambda: anyio.run(get, backend=anyio_backend))
        assert await router.get(b"key") is None


@pytest.mark.anyio
async def test_a_forked_router_says_so(server: FakeServer) -> None:
    async with open_router(server.endpoints) as router:
        await router.put(b"key", b"value")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                router.get(b"key").send(None)
            except RuntimeError as error:
                code = 0 if "parent process" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert await router.get(b"key") == b"value"


@pytest.mark.replaces_code
@pytest.mark.anyio
async def test_a_bug_inside_reaches_every_caller_and_leaves_nothing_running(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(now_us: int) -> None:
        raise ZeroDivisionError("a bug")

    async def body() -> None:
        async with open_router(server.endpoints) as router:
            await router.put(b"key", b"value")
            monkeypatch.setattr(router._driver.core, "flush", broken)
            with pytest.raises(Unavailable, match="broke down"):
                await router.get(b"key")
            with pytest.raises(RuntimeError, match="broke down"):
                await router.get(b"key")

    with pytest.raises(ExceptionGroup) as raised:
        await body()
    assert raised.group_contains(ZeroDivisionError)


@pytest.mark.parametrize(
    ("endpoints", "options", "error"),
    [
        ("nonsense", {}, InvalidArgument),
        ([], {}, InvalidArgument),
        ("h:1", {"timeout_seconds": 0}, InvalidArgument),
        ("h:1", {"timeout_seconds": 61}, InvalidArgument),
        ("h:1", {"in_flight_max": 0}, InvalidArgument),
        ("h:1", {"in_flight_max": 1.5}, InvalidArgument),
        ("h:1", {"zone": 7}, TypeError),
    ],
)
def test_arguments_that_make_no_sense_are_refused_at_once(
    endpoints: str | list[str], options: dict[str, float], error: type[Exception]
) -> None:
    with pytest.raises(error):
        open_router(endpoints, **options)  # type: ignore[arg-type]


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_core_loads_neither_an_event_loop_nor_a_codec() -> None:
    loaded = modules_after("import shardraft_router.core")
    assert not loaded & {"anyio", "trio", "asyncio", "capnp", "lmdb"}
    assert "shardraft_router.core.core" in loaded


def test_an_asyncio_program_does_not_load_trio() -> None:
    code = """
import asyncio
from shardraft_router import open_router
async def main():
    async with open_router("127.0.0.1:1"): pass
asyncio.run(main())
"""
    loaded = modules_after(code)
    assert "trio" not in loaded
    assert "lmdb" not in loaded


def test_every_public_name_can_be_loaded() -> None:
    import shardraft_router

    for name in shardraft_router.__all__:
        assert getattr(shardraft_router, name) is not None
    assert set(shardraft_router.__all__) <= set(dir(shardraft_router))
    with pytest.raises(AttributeError):
        shardraft_router.no_such_name  # noqa: B018  # Looking it up is the test.
