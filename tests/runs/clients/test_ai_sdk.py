"""The AI SDK's clients."""
import json
from collections.abc import Callable, Iterator

import pytest

from tests.live.servers import Server
from tests.npm import Node

from .ai_sdk import Clients, asking


@pytest.fixture(scope="module")
def clients(node: Node) -> Iterator[Clients]:
    with asking(node) as clients:
        yield clients


def test_try(start: Callable[..., Server], clients: Clients) -> None:
    server = start("uvicorn")
    for client in ("ai7", "ai6", "workflow", "assistant"):
        for path in ("ai/kept/whole", "ai/once/whole/", "ai/kept/failing"):
          if client != "workflow" or not path.endswith("/"):
            print(client, path, json.dumps(clients.ask(client, server.url, path).over(), indent=1, ensure_ascii=False))
    print(json.dumps(clients.ask("ai7", server.url, "ai/kept/slow", cut={"events": 12, "bytes": 4}, heal="reload").over(), indent=1, ensure_ascii=False))
    print(json.dumps(clients.ask("workflow", server.url, "ai/kept/slow", cut={"events": 12, "bytes": 4}).over(), indent=1, ensure_ascii=False))
