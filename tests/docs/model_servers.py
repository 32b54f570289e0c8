"""What stands in for the servers of OpenAI and Anthropic: each says the same few pieces, in the protocol of the address asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PIECES = ["Grü", "ße aus ", "Köln ☂"]
TEXT = "".join(PIECES)
ENDLESS = "endless"
"""The model that never stops talking."""
PAUSE = 0.02


class ModelServer(ThreadingHTTPServer):
    """Answers every POST with a stream.

    Attributes:
        url: Where it is.
        left: Set when a client has left in the middle of an answer.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.left = threading.Event()

    def environment(self) -> dict[str, str]:
        """Variables that lead the clients of OpenAI and Anthropic here."""
        return {
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": f"{self.url}/v1",
            "ANTHROPIC_API_KEY": "none",
            "ANTHROPIC_BASE_URL": self.url,
        }


class _Answer(BaseHTTPRequestHandler):
    server: ModelServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        frames = {"completions": _chat, "messages": _messages, "responses": _responses}[self.path.rpartition("/")[2]]
        waiting = threading.Event()
        try:
            for frame in frames(_pieces(asked["model"])):
                self.wfile.write(frame.encode())
                waiting.wait(PAUSE)
        except OSError:
            self.server.left.set()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _pieces(model: str) -> Iterator[str]:
    yield from PIECES
    while model == ENDLESS:
        yield from PIECES


def _chat(pieces: Iterator[str]) -> Iterator[str]:
    about = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for piece in pieces:
        yield _data({**about, "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]})
    yield _data({**about, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    yield "data: [DONE]\n\n"


def _messages(pieces: Iterator[str]) -> Iterator[str]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "usage": usage,
    }
    yield _named({"type": "message_start", "message": message})
    yield _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for piece in pieces:
        yield _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}})
    yield _named({"type": "content_block_stop", "index": 0})
    yield _named({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage})
    yield _named({"type": "message_stop"})


def _responses(pieces: Iterator[str]) -> Iterator[str]:
    said: list[str] = []
    part = {"type": "output_text", "annotations": [], "logprobs": []}
    item = {"id": "i", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    place = {"item_id": "i", "output_index": 0, "content_index": 0}
    response = {
        "id": "resp_upstream",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": "in_progress",
        "output": [],
        "parallel_tool_calls": False,
        "tool_choice": "auto",
        "tools": [],
    }

    def events() -> Iterator[dict[str, Any]]:
        yield {"type": "response.created", "response": response}
        yield {"type": "response.output_item.added", "output_index": 0, "item": item}
        yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
        for piece in pieces:
            said.append(piece)
            yield {"type": "response.output_text.delta", **place, "delta": piece, "logprobs": []}
        whole = {**part, "text": "".join(said)}
        done = {**item, "status": "completed", "content": [whole]}
        yield {"type": "response.output_text.done", **place, "text": whole["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": whole}
        yield {"type": "response.output_item.done", "output_index": 0, "item": done}
        yield {"type": "response.completed", "response": {**response, "status": "completed", "output": [done]}}

    for number, event in enumerate(events()):
        yield _named({**event, "sequence_number": number})


def _data(value: object) -> str:
    return f"data: {json.dumps(value)}\n\n"


def _named(value: dict[str, Any]) -> str:
    return f"event: {value['type']}\n{_data(value)}"


@contextmanager
def model_server() -> Iterator[ModelServer]:
    """Run one in this process."""
    with ModelServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
