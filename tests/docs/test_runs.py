"""The pages about runs say what the code does: options, endings, errors, numbers, and what breaks a response off."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from django_agent_sse import Topic, exceptions
from django_agent_sse.eventlog.leases import MOST_SECONDS
from django_agent_sse.run_routes import RunRoute
from django_agent_sse.run_views import PARTS, RUN_OPTIONS
from django_agent_sse.runs import ids, keeper, run_base
from django_agent_sse.runs.async_run import AsyncRun
from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.produce import LEASE_SECONDS
from django_agent_sse.runs.run import Run
from django_agent_sse.runs.wire import NO_WIRE
from django_agent_sse.streams.stream import CUT_SHORT

from .blocks import DOCS
from .test_internals import rows
from .test_names import cells, shown, text

REFERENCE = DOCS / "reference" / "runs.rst"
LIFE = DOCS / "topics" / "runs.rst"


SEARCHED_FOR = ("LLM", "OpenAI", "Anthropic", "LangGraph", "Pydantic AI")
PAGES = ("llm-chat", "ai-sdk", "ag-ui", "openai-endpoint", "langgraph", "mcp", "runs", "background-runs")


@pytest.mark.parametrize("page", PAGES)
def test_each_page_is_found_by_the_words_that_people_search_for(page: str) -> None:
    (keywords,) = re.findall(r"^\.\. meta::\n   :keywords: (.*)$", text(DOCS / "howto" / f"{page}.rst"), re.MULTILINE)
    assert {*SEARCHED_FOR} <= {*keywords.split(", ")}
    assert f"\n   howto/{page}\n" in text(DOCS / "index.rst")


def test_every_option_of_a_run_stands_in_the_reference_with_its_default() -> None:
    table = {row[0].strip("`"): row[1] for row in rows(REFERENCE, "run option")}
    assert set(table) == {*RUN_OPTIONS, "on_disconnect"}
    fields: Any = RunRoute.__dataclass_fields__
    for name in ("lease", "replay", "max_body"):
        assert shown(table[name]) == fields[name].default
    assert fields["wire"].default is NO_WIRE
    assert f"from 1 to {MOST_SECONDS:,.0f}" in text(REFERENCE)


def test_every_verb_of_a_run_and_of_its_topic_is_there() -> None:
    verbs = {name for row in rows(REFERENCE, "run verb") for name in re.findall(r"``(\w+)``", row[0])}
    for kind in (Run, AsyncRun):
        own = {name for one in kind.__mro__ for name in vars(one) if not name.startswith("_")}
        kept = {name for name in vars(keeper.KeptRun) if not name.startswith("_")}
        assert verbs - {"id", "topic"} == own - kept - {"write_sse"}, kind
    for row in rows(REFERENCE, "topic verb"):
        assert all(callable(getattr(Topic, name)) for name in re.findall(r"``(\w+)``", row[0]))


def test_every_address_of_a_run_stands_in_the_reference() -> None:
    told = {(method, path) for method, path in re.findall(r"``(GET|POST|DELETE) <path>([^`]*)``", text(REFERENCE))}
    names = {"<sse_run:sse_run>": "<run>", "<str:sse_run_key>": "<key>"}
    served = set()
    for path, methods in PARTS.values():
        for converter, name in names.items():
            path = path.replace(converter, name)
        served |= {(method, f"/{path.rstrip('/')}".rstrip("/")) for method in methods}
    assert {(method, path.rstrip("/")) for method, path in told} == served - {("DELETE", "")}, "DELETE of no run is refused"


def test_the_endings_of_the_pages_are_those_of_the_code() -> None:
    docs = inspect.getsource(RunEnding)
    said = {name.lower(): sentence for name, sentence in re.findall(r'    (\w+) = "\w+"\n    """(.*?)"""', docs)}
    assert set(said) == {*RunEnding}
    assert {row[0].strip("`"): row[1] for row in rows(REFERENCE, "run ending")} == said
    broken = {*CUT_SHORT, RunEnding.FAILED}
    life = {row[0].strip("`"): row[1:] for row in rows(LIFE, "ending")}
    assert {ending: row[0] for ending, row in life.items()} == said
    assert {ending for ending, row in life.items() if row[1] == "sees the response break off"} == broken


def test_every_error_of_a_run_stands_in_the_reference() -> None:
    errors = {name for name, one in vars(exceptions).items() if inspect.isclass(one) and exceptions.RunError in one.__bases__}
    assert {*cells(REFERENCE, "run error")} == errors


def test_the_numbers_are_those_of_the_code() -> None:
    numbers = dict(rows(REFERENCE, "what"))
    assert numbers["lease, by default"] == f"{LEASE_SECONDS:.0f} s"
    assert keeper.RENEW_AT == 2 / 3
    assert numbers["it is renewed when so much of it is left"] == "two thirds"
    assert numbers["a wish to stop, and the loss of a lease, are seen within"].startswith(f"{keeper.TICK} s")
    assert numbers["what is written is appended after"] == f"{run_base.BATCH_SECONDS} s, or {run_base.BATCH_BYTES:,} bytes"
    assert numbers["an end is tried again, while the log is away, for"] == f"{run_base.CLOSE_SECONDS:.0f} s"
    times = f"{run_base.CLEANUP_SECONDS:.0f} s; at the end of the process {keeper.END_SECONDS} s"
    assert numbers["code that was asked to end has, for its ``finally`` blocks"] == times
    assert numbers["an ``Idempotency-Key``"] == f"{ids.MAX_NAME} characters"
