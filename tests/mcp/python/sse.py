"""The transport of 2024-11-05: the stream is with A, every message is posted through B."""

import httpx2
from mcp.client.sse import sse_client

from conversation import converse
from replicas import Replicas, until


async def sse(replicas: Replicas) -> None:
    endpoints: list[str] = []

    def route(request: httpx2.Request) -> str:
        if request.method == "GET":
            return "A"
        endpoints.append(request.url.raw_path.decode())
        return "B"

    def connect():
        def factory(headers=None, timeout=None, auth=None) -> httpx2.AsyncClient:
            return replicas.client(route, headers=headers, auth=auth)

        return sse_client(replicas.url("A", "/sse"), httpx_client_factory=factory)

    async with converse(connect()) as session:
        await session.count()
        await session.call("announce", {"from": 0, "to": 5})
        await session.hears(5)
        await session.progresses()
        await session.answers()
    assert set(replicas.log) == {"GET A", "POST B"}, set(replicas.log)

    # The end of the stream is the end of the session, on every replica.
    async with httpx2.AsyncClient() as plain:
        for replica in ["A", "B"]:

            async def gone() -> bool:
                message = {"jsonrpc": "2.0", "id": 7, "method": "ping"}
                return (await plain.post(replicas.url(replica, endpoints[-1]), json=message)).status_code == 404

            await until(f"404 from {replica}", gone)

    async with converse(connect()) as anew:
        await anew.count()
