"""SDKs as they are published: each reports an answer that was broken off, and none takes a whole one for broken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from tests.npm import Node
from tests.site.routes.sdk import ENDINGS, TOKENS

from .servers import ASGI, Server, poll

Outcomes = dict[str, tuple[str, str | None]]
NPM = ("openai chat", "openai responses", "anthropic", "ai", "ag-ui")
QUESTION: Any = [{"role": "user", "content": "hello"}]
WHOLE = "".join(TOKENS)
PATIENCE = 300.0


# They are imported where they are asked: it takes seconds, and every process of a run imports this file to know its tests.
def openai_python(base: str) -> Iterator[str]:
    import openai

    with openai.OpenAI(base_url=f"{base}/openai", api_key="k", max_retries=0) as client:
        for chunk in client.chat.completions.create(model="m", messages=QUESTION, stream=True):
            yield chunk.choices[0].delta.content or ""


def openai_responses_python(base: str) -> Iterator[str]:
    import openai

    with openai.OpenAI(base_url=f"{base}/openai", api_key="k", max_retries=0) as client:
        for event in client.responses.create(model="m", input="hello", stream=True):
            yield event.delta if event.type == "response.output_text.delta" else ""


def anthropic_python(base: str) -> Iterator[str]:
    import anthropic

    with anthropic.Anthropic(base_url=f"{base}/anthropic", api_key="k", max_retries=0) as client:
        for event in client.messages.create(model="m", max_tokens=9, messages=QUESTION, stream=True):
            yield getattr(event.delta, "text", "") if event.type == "content_block_delta" else ""


PYTHON = (openai_python, openai_responses_python, anthropic_python)


class Asked:
    """Every SDK, asking for an answer with each ending at once."""

    def __init__(self, node: Node, origin: str) -> None:
        self._origin = origin
        self._outcomes: dict[str, Outcomes] = {ending: {} for ending in ENDINGS}
        self._begun: set[tuple[str, str]] = set()
        self._pool = ThreadPoolExecutor(len(PYTHON) * len(ENDINGS) + 1)
        self._python = [self._pool.submit(self._ask, ending, client) for ending in ENDINGS for client in PYTHON]
        environment = {**os.environ, "ORIGIN": origin, "ENDINGS": ",".join(ENDINGS)}
        self._npm = subprocess.Popen(
            node.command("sdks.mjs"), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = self._pool.submit(self._read)

    def _ask(self, ending: str, client: Callable[[str], Iterator[str]]) -> None:
        text, error = "", None
        try:
            for part in client(f"{self._origin}/sdk/{ending}"):
                text += part
                self._begun.add((ending, client.__name__))
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        self._outcomes[ending][client.__name__] = text, error

    def _read(self) -> None:
        assert self._npm.stdout is not None
        for line in map(json.loads, self._npm.stdout):
            name = f"{line['name']} (npm)"
            self._begun.add((line["ending"], name))
            if "text" in line:
                self._outcomes[line["ending"]][name] = line["text"], line["error"]

    def outcomes(self, ending: str) -> Outcomes:
        """What each SDK made of that ending, once all have."""
        outcomes = self._outcomes[ending]
        poll(f"every SDK has seen {ending}", lambda: len(outcomes) == len(PYTHON) + len(NPM), within=PATIENCE)
        return outcomes

    def begun(self, ending: str) -> None:
        """Wait until each SDK has read some of that answer."""
        count = len(PYTHON) + len(NPM)
        poll("every SDK has begun", lambda: sum(one == ending for one, _ in self._begun) == count, within=PATIENCE)

    def close(self) -> None:
        self._npm.wait(PATIENCE)
        self._pool.shutdown()
        assert self._npm.stdout is not None
        self._npm.stdout.close()


def must_be_broken(outcomes: Outcomes) -> None:
    for name, (text, error) in outcomes.items():
        assert error is not None, f"{name} takes {text!r} for a whole answer"
        assert WHOLE.startswith(text), f"{name}: {text!r}"
        assert text != WHOLE, f"{name}: {text!r}"


@pytest.mark.parametrize("kind", ASGI)
def test_each_sdk_tells_a_finished_answer_from_a_broken_one(start: Callable[..., Server], node: Node, kind: str) -> None:
    server = start(kind, middleware="default")
    with closing(Asked(node, server.url)) as asked:
        assert set(asked.outcomes("finished").values()) == {(WHOLE, None)}
        must_be_broken(asked.outcomes("handler_error"))
        must_be_broken(asked.outcomes("max_duration"))
        asked.begun("shutdown")
        server.signal(signal.SIGTERM)
        must_be_broken(asked.outcomes("shutdown"))
