"""What a client of any transport does with its session."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp import Client

from replicas import until

CALLS = 50


class Conversation:
    def __init__(self) -> None:
        self.announced: list[int] = []
        self._client: Client
        self._server: str | None = None
        self._calls = 0

    async def call(self, name: str, arguments: dict[str, Any] | None = None, **options: Any) -> str:
        result = await self._client.call_tool(name, arguments or {}, **options)
        text = result.content[0].text
        assert not result.is_error, f"{name}: {text}"
        return text

    async def count(self, times: int = CALLS) -> None:
        """Each call is the next one on the same server."""
        for _ in range(times):
            answer = json.loads(await self.call("count"))
            if not self._server:
                print(f"answered by {answer['server']}")
            self._server = self._server or answer["server"]
            self._calls += 1
            assert answer == {"server": self._server, "calls": self._calls}, answer

    async def hears(self, to: int) -> None:
        """Messages that are no answer to anything come in order, each once."""
        await until(f"{to} announced numbers", lambda: len(self.announced) >= to)
        assert self.announced == list(range(to)), self.announced

    async def progresses(self) -> None:
        seen: list[float] = []

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            seen.append(progress)

        await self.call("test_tool_with_progress", progress_callback=progressed)
        assert seen == [0, 50, 100], seen

    async def answers(self) -> None:
        """The server asks, the client answers, in the middle of a call."""
        assert await self.call("test_sampling", {"prompt": "hello"}) == "LLM response: you said: hello"
        answer = await self.call("test_elicitation", {"message": "Who are you?"})
        assert answer == 'User response: action=accept, content={"username":"ada","email":"ada@example.test"}', answer


@asynccontextmanager
async def converse(transport: Any) -> AsyncIterator[Conversation]:
    conversation = Conversation()

    async def sampled(_context: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        text = f"you said: {params.messages[0].content.text}"
        return types.CreateMessageResult(role="assistant", content=types.TextContent(text=text), model="none")

    async def elicited(_context: Any, _params: types.ElicitRequestParams) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"username": "ada", "email": "ada@example.test"})

    async def logged(params: types.LoggingMessageNotificationParams) -> None:
        conversation.announced.append(params.data)

    # The handshake of 2025-11-25 and before, which begins a session.
    async with Client(
        transport,
        mode="legacy",
        sampling_callback=sampled,
        elicitation_callback=elicited,
        logging_callback=logged,
    ) as client:
        conversation._client = client
        yield conversation
