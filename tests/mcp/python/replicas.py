"""Two replicas, and which one each request of a client goes to."""

from collections.abc import Awaitable, Callable

import anyio
import httpx2

PATIENCE_S = 30.0

Route = Callable[[httpx2.Request], str]


class Replicas:
    def __init__(self, a: str, b: str) -> None:
        self.urls = {"A": httpx2.URL(a), "B": httpx2.URL(b)}
        # Every request so far, as in "GET B 17": method, replica, and the event that a stream is resumed after.
        self.log: list[str] = []
        # The replica of every stream that was opened, the head of its response received.
        self.opened: list[str] = []
        self.posts = 0

    def url(self, replica: str, path: str) -> str:
        return str(self.urls[replica].join(path))

    def alternate(self) -> str:
        """Every other one, A first."""
        self.posts += 1
        return "AB"[(self.posts - 1) % 2]

    def client(self, route: Route, **options: object) -> httpx2.AsyncClient:
        """A client for the SDK's transports: `route` names the replica for each request."""
        return httpx2.AsyncClient(transport=_Routed(self, route), timeout=httpx2.Timeout(30, read=300), **options)


class _Routed(httpx2.AsyncBaseTransport):
    def __init__(self, replicas: Replicas, route: Route) -> None:
        self._replicas = replicas
        self._route = route
        self._inner = httpx2.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        replica = self._route(request)
        last = request.headers.get("last-event-id")
        self._replicas.log.append(" ".join(filter(None, [request.method, replica, last])))
        target = self._replicas.urls[replica]
        request.url = request.url.copy_with(scheme=target.scheme, host=target.host, port=target.port)
        request.headers["host"] = target.netloc.decode()
        response = await self._inner.handle_async_request(request)
        if request.method == "GET" and response.status_code == 200:
            self._replicas.opened.append(replica)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def until(what: str, condition: Callable[[], bool | Awaitable[bool]]) -> None:
    with anyio.move_on_after(PATIENCE_S):
        while True:
            seen = condition()
            if seen if isinstance(seen, bool) else await seen:
                return
            await anyio.sleep(0.02)
    raise AssertionError(f"never came true: {what}")
