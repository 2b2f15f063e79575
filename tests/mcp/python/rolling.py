"""Streamable HTTP through a balancer while the replicas behind it are replaced, until SIGTERM: no call fails, and the
stream, which ends with its replica, is resumed without a message lost or said twice."""

import signal

import anyio
from mcp.client.streamable_http import streamable_http_client

from conversation import converse
from replicas import Replicas, until

PAUSE_S = 0.02


async def rolling(replicas: Replicas) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            ended = anyio.Event()

            async def end() -> None:
                async for _ in signals:
                    ended.set()
                    return

            tasks.start_soon(end)
            await converses(replicas, ended)


async def converses(replicas: Replicas, ended: anyio.Event) -> None:
    async with replicas.client(lambda _request: "A") as http:
        async with converse(streamable_http_client(replicas.url("A", "/mcp"), http_client=http)) as session:
            await until("an open stream", lambda: len(replicas.opened) >= 1)
            print("begun", flush=True)
            said = 0
            while not ended.is_set():
                await session.count(1)
                await session.call("announce", {"from": said, "to": said + 1})
                said += 1
                await anyio.sleep(PAUSE_S)
            await session.hears(said)
            await until("a resumed stream", lambda: len(replicas.opened) >= 2)
            print(f"{said} calls, {len(replicas.opened)} streams")
            assert said > 0
