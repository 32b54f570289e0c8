"""The monitor's files: cells that a spreadsheet would take for formulas, every table, however many streams; what filters say."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.core.handlers.wsgi import WSGIRequest
from django.http import QueryDict
from django.test import RequestFactory

from django_agent_sse.contrib.monitor import inspector
from django_agent_sse.contrib.monitor.admin import export
from django_agent_sse.contrib.monitor.admin.export import TABLES, Document, as_csv, as_json, document
from django_agent_sse.contrib.monitor.admin.live_view import Viewer, address_of, query_of
from django_agent_sse.contrib.monitor.cluster import ClusterView, cluster_view
from django_agent_sse.contrib.monitor.inspector import StreamQuery, StreamRow
from django_agent_sse.contrib.monitor.reporter import Reporter
from django_agent_sse.eventlog.memory import MemoryEventLog
from django_agent_sse.streams.registry import registry
from django_agent_sse.streams.sockets import Addresses
from django_agent_sse.streams.transport import UNFINISHED
from tests.inprocess import Site, eventually, serve

from .test_reporter import begin, log

__all__ = ["begin", "log"]  # fixtures

PATIENCE = 60.0
FACTS = {"at": "now", "matched": 1, "missing_processes": 0}


def row_of(table: str, **values: Any) -> dict[str, Any]:
    return {column: values.get(column, 1) for column in TABLES[table]}


def document_of(*pages: list[dict[str, Any]], **facts: Any) -> Document:
    async def streams() -> AsyncIterator[list[dict[str, Any]]]:
        for page in pages:
            yield page

    tables: dict[str, Any] = {"routes": [row_of("routes", route="=r")], "history": []}
    return Document(facts=FACTS | facts, tables=tables, streams=streams())


async def text_of(chunks: AsyncIterator[str]) -> str:
    return "".join([chunk async for chunk in chunks])


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("＝1+1", "'＝1+1"),
        (' "=1+1', "' \"=1+1"),
        ("a;=1+1", "a;'=1+1"),
        ("a; '@SUM(1)", "a;' '@SUM(1)"),
        (" " * 40 + "=1", "'" + " " * 40 + "=1"),
        ("\t=1", "\\x09=1"),
        ("\r\n=1", "\\x0d\\x0a=1"),
        ("\u202e=1", "\\u202e=1"),
        ("x" * 9_000, "x" * 3_999 + "…"),
        ('curl/8 "x", y', 'curl/8 "x", y'),
        ("Mozilla/5.0 (X11; Linux; rv:148.0)", "Mozilla/5.0 (X11; Linux; rv:148.0)"),
        (-1.5, "-1.5"),
        (None, ""),
        (("a", "b"), "a b"),
        (("=a", "b"), "'=a b"),
    ],
)
async def test_a_cell_is_never_a_formula_and_a_number_stays_one(value: Any, cell: str) -> None:
    text = await text_of(as_csv(document_of([row_of("streams", agent=value)]), "streams"))
    head, row = csv.reader(io.StringIO(text))
    assert dict(zip(head, row, strict=True))["agent"] == cell
    for delimiter in ",;":  # what a spreadsheet of another country parts by
        for found in csv.reader(io.StringIO(text), delimiter=delimiter):
            assert not [one for one in found if one.lstrip(" \"'").startswith(("=", "+", "@", "＝")) and not one.startswith("'")]


async def test_json_is_json_however_many_pages_of_streams_there_are() -> None:
    rows = [{"agent": "ü"}, {"agent": '"'}, {"agent": "\u2028"}]
    for pages in ([], [rows], [rows, rows[:1]]):
        told = json.loads(await text_of(as_json(document_of(*pages))))
        assert told == {
            **FACTS,
            "routes": [row_of("routes", route="=r")],
            "history": [],
            "streams": [row for page in pages for row in page],
        }


async def test_a_table_without_streams_asks_for_none() -> None:
    text = await text_of(as_csv(document_of([{}]), "routes"))
    assert text.splitlines()[1].startswith("'=r,1,")


@pytest.mark.parametrize(("missing", "table", "whole"), [(0, "streams", True), (2, "streams", False), (2, "history", True)])
def test_a_file_that_is_not_whole_says_so_in_its_name(missing: int, table: str, whole: bool) -> None:
    answer = export.answer(RequestFactory().get("/"), document_of(missing_processes=missing), "csv", table)
    name = answer.headers["Content-Disposition"]
    assert name.startswith(f'attachment; filename="monitor-{table}-2')
    assert ("-incomplete.csv" in name) is not whole
    assert answer.headers["Cache-Control"] == "no-store, private"


def test_it_comes_as_it_is_made_where_the_server_can() -> None:
    whole = export.answer(RequestFactory().get("/"), document_of([row_of("streams")]), "csv", "streams")
    assert isinstance(RequestFactory().get("/"), WSGIRequest)
    assert whole.content.decode().count("\r\n") == 2  # type: ignore[attr-defined]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b""}
    assert export.answer(ASGIRequest(scope, io.BytesIO()), document_of(), "json", "streams").streaming


async def test_a_file_that_cannot_be_finished_is_broken_off_also_where_the_server_leaves_the_connection_open(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent() -> AsyncIterator[list[dict[str, Any]]]:
        yield [row_of("streams")]
        raise TimeoutError("the process a has not told its next rows")

    watched: list[tuple[Addresses, bool]] = []
    departures = registry.loop_state().departures
    monkeypatch.setattr(type(departures), "add", lambda self, ends, patience, *, unfinished: watched.append((ends, unfinished)))
    ends = {"client": ("192.0.2.1", 5_000), "server": ("192.0.2.2", 80), "http_version": "1.1"}
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", **ends}
    made = dataclasses.replace(document_of(), streams=silent())
    response = export.answer(ASGIRequest(scope, io.BytesIO()), made, "csv", "streams")
    with pytest.raises(UNFINISHED):
        assert [part async for part in response]  # type: ignore[attr-defined]
    assert watched == [(Addresses("192.0.2.1", 5_000, 80), True)]
    assert "the process a has not told its next rows" in caplog.text


# However many streams

MANY = 23


def viewer(**query: Any) -> Viewer:
    return Viewer(query=StreamQuery(**query), user="", sees_payloads=False, closes=False)


async def several(c: Any, stream: Any, number: int) -> None:
    await stream.write("hello")
    await stream.wait_closed()


async def opened(site: Site, count: int = MANY) -> set[str]:
    """So many open streams: their ids."""
    clients = [site.connect(f"/stream/{number}/", headers={"user-agent": f"Agent/{number}"}) for number in range(count)]
    for client in clients:
        await eventually("it is open", lambda client=client: client.chunks, PATIENCE)
    return {inspector.id_of(stream) for stream in registry.loop_state().streams}


async def ids_of(viewer: Viewer) -> list[str]:
    told = json.loads(await text_of(as_json(await document(viewer))))
    assert told["missing_processes"] == 0
    return [row["id"] for row in told["streams"]]


async def test_every_stream_is_in_the_file_of_one_process(log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspector, "FILE_ROWS", 5)
    async with serve(several) as site:
        ids = await opened(site)
        found = await ids_of(viewer())
        assert (len(found), set(found)) == (MANY, ids)
        assert len(await ids_of(viewer(text="agent/1"))) == 11, "Agent/1 and Agent/10 to Agent/19"
        monkeypatch.setattr(inspector, "FILE_ROWS", 500)
        monkeypatch.setattr(inspector, "FILE_TEXT", 40)  # nor is one answer larger than an event may be
        found = await ids_of(viewer())
        assert (len(found), set(found)) == (MANY, ids)


async def test_every_stream_is_in_the_file_where_processes_are_asked_through_the_log(
    log: MemoryEventLog, begin: Callable[[], Reporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "FILE_ROWS", 10)
    monkeypatch.setattr(export, "ANSWER_TIMEOUT", PATIENCE)
    monkeypatch.setattr(ClusterView, "local", False)
    monkeypatch.setattr(MemoryEventLog, "crosses_processes", True)
    cluster_view.reset()
    async with serve(several) as site:
        ids = await opened(site)
        reporter = begin()
        await eventually("it has reported", lambda: _answering(), PATIENCE)
        found = await ids_of(viewer())
        assert (len(found), set(found)) == (MANY, ids)
        await eventually(
            "a file asks once", lambda: not reporter._watches or set(reporter._watches) == {export.NO_ROWS}, PATIENCE
        )
    cluster_view.reset()


def _answering() -> list[str]:
    cluster_view.read(0.0)
    return cluster_view.snapshot().answering


async def test_where_a_process_does_not_answer_any_more_the_file_breaks_off(
    log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector, "FILE_ROWS", 5)
    async with serve(several) as site:
        await opened(site)
        made = await document(viewer())

        async def silent(*args: Any) -> tuple[list[StreamRow], int, int]:
            return [], 0, 1

        monkeypatch.setattr(cluster_view, "answers", silent)
        with pytest.raises(TimeoutError, match="is not whole"):
            await text_of(as_csv(made, "streams"))


def test_who_may_not_see_the_names_of_runs_gets_none_in_a_file() -> None:
    row = StreamRow(
        *("p.1", "r/", ("chats.1.run_0123456789abcdef",), "", 1.0, 1.0, 0, 0, None, 0, 0.0, "", "", "p", "live"),
    )
    assert export._stream(viewer(), row)["topics"] == ("chats.1.run_012345…",)
    sees = dataclasses.replace(viewer(), sees_topics=True)
    assert export._stream(sees, row)["topics"] == ("chats.1.run_0123456789abcdef",)


# What is asked for


def test_what_stands_in_the_address_is_kept_and_nothing_else() -> None:
    asked = QueryDict("view=runs&route=a%2F&anonymous=1&sort=-lag&evil=1&text=&range=hour")
    assert address_of(asked) == "view=runs&range=hour&route=a%2F&anonymous=1&sort=-lag"
    assert address_of(asked, view="streams", route="") == "range=hour&anonymous=1&sort=-lag"
    assert query_of(asked) == StreamQuery(route="a/", anonymous=True, sort="-lag")
    assert len(address_of(QueryDict(f"text={'x' * 5000}"))) < 300
