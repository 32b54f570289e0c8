"""The access logs of the servers, in their own words: no signed address stands in them, and nothing that a client sends beside.

daphne writes the address as it came, and nothing of ours is asked: there the log is switched off, as
``docs/howto/signed-urls.rst`` says.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_agent_sse import signed_url

from .servers import APPLICATION, COMMANDS, Server, poll

SITE = {"middleware": "default", "wrapper": "1"}
START = Callable[..., Server]
MARK = "planted"
HEADERS = {
    "Last-Event-ID": f"{MARK}-id",
    "Cookie": f"sessionid={MARK}-cookie",
    "Authorization": f"Bearer {MARK}-token",
    "X-API-Key": f"{MARK}-key",
}
ALL = "%(R)s|%(q)s|%(s)s"
LOGGING = {
    "uvicorn": f"uvicorn --host 127.0.0.1 --port {{port}} {APPLICATION}",
    "granian": "granian --interface asgi --host 127.0.0.1 --port {port} --access-log "
    f"--access-log-fmt %(method)s|%(path)s?%(query_string)s|%(status)d {APPLICATION}",
    "hypercorn": f"hypercorn -w 0 -b 127.0.0.1:{{port}} --access-logfile - --access-logformat {ALL} {APPLICATION}",
    "gunicorn": f"gunicorn -k asgi -b 127.0.0.1:{{port}} --no-control-socket --access-logfile - {APPLICATION}",
    "gunicorn with uvicorn": f"gunicorn -k uvicorn_worker.UvicornWorker -b 127.0.0.1:{{port}} --access-logfile - {APPLICATION}",
    "daphne": f"daphne -b 127.0.0.1 -p {{port}} --access-log /dev/stdout {APPLICATION}",
    "daphne, quiet": f"daphne -b 127.0.0.1 -p {{port}} -v 0 {APPLICATION}",
}
"""With their access logs on, and all of the address in them."""
PATH = "/origins/signed/"


def ask_by_signature(server: Server) -> str:
    """Ask for a stream with a signed address, and again when somebody has spoilt it; return what stands in all of them."""
    signature = signed_url(f"{PATH}?to=3").partition("sse_signature=")[2]
    with server.open(PATH[1:], to=3, sse_signature=signature) as client:
        assert [event.data for event in client.rest()] == [" 1", " 2", " 3"]
    for accept in ("text/event-stream", "text/html", "*/*"):
        sent = {**HEADERS, "Accept": accept}
        assert server.get(PATH[1:], to=3, sse_signature=signature[:-3], headers=sent).status == 401
    return signature.rpartition(":")[2][:-3]  # what stands before is written with %3A


@pytest.mark.parametrize("kind", [kind for kind in LOGGING if not kind.startswith("daphne")])
def test_a_signature_stands_in_no_access_log(start: START, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setitem(COMMANDS, kind, LOGGING[kind])
    server = start(kind, **SITE)
    signature = ask_by_signature(server)
    poll("all four are logged", lambda: server.log().count(f"{PATH}?to=3") >= 4)
    assert signature not in server.log()
    assert "sse_signature" not in server.log()
    assert MARK not in server.log()


def test_daphnes_access_log_has_to_be_off(start: START, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, told in {"daphne": True, "daphne, quiet": False}.items():
        monkeypatch.setitem(COMMANDS, kind, LOGGING[kind])
        server = start(kind, **SITE)
        signature = ask_by_signature(server)
        if told:
            poll("it stands in the log", lambda: signature in server.log())  # noqa: B023
        else:
            assert signature not in server.log()
            assert '"GET ' not in server.log()
        assert MARK not in server.log()
