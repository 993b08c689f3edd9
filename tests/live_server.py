"""A small OpenAI-compatible server in a thread, with an engine that batches, and faults on demand.

Its engine makes one token for each running request in every step, runs at most `max_num_seqs` of them, and
takes others in the order in which they came. Prompts cost nothing.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Fault = Callable[[int, dict[str, Any]], str | None]
"""From the number of a request and its body to what goes wrong: see `LiveServer._broken`."""


@dataclass
class LiveServer:
    """What the server is, and what it was asked."""

    base: str = "base"
    adapters: tuple[str, ...] = ()
    step_s: float = 0.004
    max_num_seqs: int = 256
    max_loras: int = 4
    num_gpu_blocks: int = 8192
    block_size: int = 16
    max_model_len: int = 2048
    version: str | None = "0.32.0"
    key: str | None = None
    bunch: bool = False
    fault: Fault = lambda _number, _body: None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    url: str = ""

    def __post_init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Queue[bool], int]] = deque()
        self._running: dict[asyncio.Queue[bool], int] = {}
        self._done: Counter[str] = Counter()

    # --- the engine -----------------------------------------------------------------------------------

    async def _engine(self) -> None:
        while True:
            while self._waiting and len(self._running) < self.max_num_seqs:
                queue, tokens = self._waiting.popleft()
                self._running[queue] = tokens
            await asyncio.sleep(self.step_s)
            for queue in list(self._running):
                self._running[queue] -= 1
                queue.put_nowait(self._running[queue] == 0)
                if self._running[queue] == 0:
                    del self._running[queue]

    # --- what is asked --------------------------------------------------------------------------------

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "wrong key"}}, status=401)
        if body["model"] not in (self.base, *self.adapters):
            return web.json_response({"error": {"message": f"no model {body['model']}"}}, status=404)
        if (fault := self.fault(number, body)) is not None:
            return await self._broken(fault, request)
        return await self._stream(request, body)

    async def _broken(self, fault: str, request: web.Request) -> web.StreamResponse:
        if fault.isdecimal():
            return web.json_response({"error": {"message": "on demand"}}, status=int(fault))
        if fault == "redirect":
            raise web.HTTPFound("http://127.0.0.2:9/elsewhere")
        if fault == "html":
            return web.Response(text="<html>a login page</html>", content_type="text/html")
        if fault == "hang up":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault == "stall":
            await asyncio.sleep(3600)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(_event(_piece("a", None)))
        if fault == "die":
            assert request.transport is not None
            request.transport.abort()
        elif fault == "error event":
            await response.write(_event({"error": {"message": "engine died", "code": 500}}))
        elif fault == "garbage":
            await response.write(b"data: {\n\n")
        elif fault == "endless line":
            await response.write(b"data: " + b"x" * 2_000_000)
        elif fault == "end":
            pass  # without a last piece
        return response

    async def _stream(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        queue: asyncio.Queue[bool] = asyncio.Queue()
        self._waiting.append((queue, body["max_tokens"]))
        last, count, held = False, 0, b""
        try:
            await response.prepare(request)
            while not last:
                last, count = await queue.get(), count + 1
                piece = _piece("x", "length" if last else None)
                if body.get("return_token_ids"):
                    piece["choices"][0]["token_ids"] = [count % 1000]
                held += _event(piece)
                if last or not self.bunch:
                    await response.write(held)
                    held = b""
            usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": count}
            await response.write(_event({"choices": [], "usage": usage}))
            await response.write(b"data: [DONE]\n\n")
        except ConnectionResetError:  # the client has left, and the engine forgets it
            self._running.pop(queue, None)
            return response
        self._done[body["model"]] += 1
        self._done["prompt_tokens"] += len(body["prompt"])
        self._done["output_tokens"] += count
        return response

    async def _models(self, _request: web.Request) -> web.Response:
        cards = [{"id": self.base, "root": "/models/base", "max_model_len": self.max_model_len}]
        cards += [{"id": name, "root": f"/a/{name}", "parent": self.base} for name in self.adapters]
        return web.json_response({"object": "list", "data": cards})

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def _version(self, _request: web.Request) -> web.Response:
        if self.version is None:
            raise web.HTTPNotFound
        return web.json_response({"version": self.version})

    async def _metrics(self, _request: web.Request) -> web.Response:
        label, done = f'model_name="{self.base}"', self._done
        requests = sum(done[name] for name in (self.base, *self.adapters))
        lines = [
            f'vllm:cache_config_info{{block_size="{self.block_size}",'
            f'num_gpu_blocks="{self.num_gpu_blocks}"}} 1.0',
            f"vllm:num_requests_running{{{label}}} {len(self._running)}",
            f"vllm:num_requests_waiting{{{label}}} {len(self._waiting)}",
            f"vllm:kv_cache_usage_perc{{{label}}} 0.0",
            f"vllm:prompt_tokens_total{{{label}}} {done['prompt_tokens']}",
            f"vllm:generation_tokens_total{{{label}}} {done['output_tokens']}",
            f'vllm:request_success_total{{finished_reason="length",{label}}} {requests}',
            f'vllm:lora_requests_info{{max_lora="{self.max_loras}",running_lora_adapters="",'
            f'waiting_lora_adapters=""}} 1.7e9',
        ]
        return web.Response(text="\n".join(lines) + "\n")

    # --- its thread -----------------------------------------------------------------------------------

    @contextmanager
    def serving(self, port: int = 0) -> Iterator[LiveServer]:
        """Serve on loopback while the block lasts."""
        loop, ready = asyncio.new_event_loop(), threading.Event()
        holds: dict[str, Any] = {}

        async def start() -> None:
            app = web.Application(client_max_size=2**26)
            app.middlewares.append(self._counting)
            app.router.add_post("/v1/completions", self._complete)
            app.router.add_get("/v1/models", self._models)
            app.router.add_get("/version", self._version)
            app.router.add_get("/metrics", self._metrics)
            app.router.add_get("/health", self._health)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            holds["runner"], holds["engine"] = runner, asyncio.create_task(self._engine())
            address = runner.addresses[0]
            self.url = f"http://127.0.0.1:{address[1]}"
            ready.set()

        async def end() -> None:
            holds["engine"].cancel()
            await holds["runner"].cleanup()

        def run() -> None:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(start())
            loop.run_forever()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(end(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()

    @web.middleware
    async def _counting(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked[request.path] += 1
        answer: web.StreamResponse = await handler(request)
        return answer


def _piece(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": finish_reason}]}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
