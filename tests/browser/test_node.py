"""The client's unit tests, which run under Node.js: one pytest test for each file of ``tests/node``."""

from __future__ import annotations

import base64
import json
import random
from pathlib import Path

import pytest

from tests.npm import SOURCE, Node
from tests.wire.standard import read_by_the_standard
from tests.wire.test_decoder import TABLE

STATIC = Path(__file__).resolve().parents[2] / "django_agent_sse/static/django_agent_sse"
LOGS = Path(__file__).resolve().parents[1] / "log"
UNITS = sorted(path.name for path in SOURCE.glob("*.test.mjs"))
SHIPPED = sorted(STATIC.glob("*.js"))
RANDOM = 300
FIELDS = ["data", "event", "id", "retry", ":", ": ", "data: ", "data:x\n", "id: 7\n", "retry: 30\n", "event: e\n"]
ENDS = ["\n", "\r", "\r\n", "\n\n"]
TEXT = ["\0", "\ufeff", "é", "…", "😀", "\u2028", "\x85", "x", "12", " "]


def drawn(seed: int) -> bytes:
    """A short stream of awkward pieces, sometimes with a byte that is no UTF-8."""
    draw = random.Random(seed)
    parts = [draw.choice(draw.choice((FIELDS, ENDS, TEXT))).encode() for _ in range(draw.randrange(4, 24))]
    if draw.random() < 0.3:
        parts.insert(draw.randrange(len(parts)), bytes([draw.randrange(128, 256)]))
    return b"".join(parts)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The streams of the decoder's own table and drawn ones, each with what the standard says it means, as JSON."""
    streams = {name: stream for name, (stream, _) in TABLE.items()} | {f"drawn {seed}": drawn(seed) for seed in range(RANDOM)}
    told = []
    for name, stream in streams.items():
        outcome = read_by_the_standard(stream)
        events = [(event.event or "message", event.data, id) for event, id in zip(outcome.events, outcome.ids, strict=True)]
        about = {"name": name, "stream": base64.b64encode(stream).decode()}
        told.append({**about, "events": events, "lastEventId": outcome.last_event_id, "retry": outcome.retry})
    file = tmp_path_factory.mktemp("cases") / "cases.json"
    file.write_text(json.dumps(told))
    return file


@pytest.mark.parametrize("unit", UNITS)
def test_units(node: Node, cases: Path, unit: str) -> None:
    node.run("--test", unit, environment={"CASES": str(cases), "LOGS": str(LOGS), "STATIC": str(STATIC)})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_scripts_are_modules_that_parse(node: Node, path: Path) -> None:
    node.run("--experimental-default-type=module", "--check", str(path))
