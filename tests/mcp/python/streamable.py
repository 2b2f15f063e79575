"""Streamable HTTP with a session: it begins on A, its stream is opened on B and resumed on A, it is deleted on B."""

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from conversation import converse
from replicas import Replicas, until


async def streamable(replicas: Replicas) -> None:
    sessions: list[str] = []

    def route(request: httpx2.Request) -> str:
        session = request.headers.get("mcp-session-id")
        if session and session not in sessions:
            sessions.append(session)
        if request.method == "POST":
            return replicas.alternate()
        return "A" if request.method == "GET" and "last-event-id" in request.headers else "B"

    async with replicas.client(route) as http, httpx2.AsyncClient() as plain:

        def connect():
            return streamable_http_client(replicas.url("A", "/mcp"), http_client=http)

        async def ask(replica: str, session: str) -> httpx2.Response:
            headers = {
                "accept": "application/json, text/event-stream",
                "mcp-session-id": session,
                "mcp-protocol-version": "2025-11-25",
            }
            message = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}
            return await plain.post(replicas.url(replica, "/mcp"), headers=headers, json=message)

        async with converse(connect()) as session:
            assert replicas.log[0] == "POST A", "initialize goes to A"
            await until("an open stream", lambda: replicas.opened == ["B"])
            await session.count()
            await session.call("announce", {"from": 0, "to": 5})
            await session.hears(5)
            # Once on the stream of a call through each replica.
            await session.progresses()
            await session.progresses()

            # The stream is closed, more is said, and the client resumes: nothing is lost or said twice.
            await session.call("close_stream")
            await session.call("announce", {"from": 5, "to": 10})
            await until("a resumed stream", lambda: replicas.opened == ["B", "A"])
            await session.hears(10)
            await session.call("announce", {"from": 10, "to": 12})
            await session.hears(12)
            assert any(request.startswith("GET A ") for request in replicas.log), "resumed on A with Last-Event-ID"

            # The same with the stream of a call: its answer comes on the stream that resumes it.
            await session.call("test_reconnection")
            await session.answers()
            await session.count()

            # Somebody ends the session; its next request, on whichever replica, says so, and the client starts anew.
            ended = sessions[-1]
            deleted = await plain.delete(replicas.url("B", "/mcp"), headers={"mcp-session-id": ended})
            assert deleted.status_code == 200, deleted
            after = await ask("A", ended)
            assert after.status_code == 404, after
            assert after.json()["error"]["code"] == -32001, after.text
            try:
                await session.count(1)
            except MCPError as refusal:
                assert refusal.code == -32001, refusal
            else:
                raise AssertionError("the ended session still answers")

        async with converse(connect()) as anew:
            await anew.count()
            assert sessions[-1] != ended
        # The SDK ends the session when it is left.
        assert replicas.log[-1] == "DELETE B", replicas.log[-1]
        assert (await ask("A", sessions[-1])).status_code == 404
