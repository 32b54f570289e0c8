"""The pages about AI SDK, AG-UI, LangGraph and OpenAI's protocols, in a fresh project: published clients get the whole answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.npm import Node

from .blocks import DOCS, Block, blocks_of
from .following import Project, followed, with_apps
from .model_servers import TEXT, model_server

HOWTO = DOCS / "howto"
FILES = {
    "ai-sdk": ["chat", "saving", "by_hand"],
    "ag-ui": ["agents", "agents_by_hand"],
    "openai-endpoint": ["keys", "answers", "completions", "responses"],
    "langgraph": ["graph", "runs"],
}
ROUTERS = ["chat", "by_hand", "agents", "agents_by_hand", "completions", "responses", "runs"]
AGENT = f"""
import asyncio
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel

async def said(messages, info):
    for piece in {["Grü", "ße aus ", "Köln ☂"]!r}:
        yield piece
    while "endless" in str(messages):
        await asyncio.sleep(0.02)
        yield "."

agent = Agent(FunctionModel(stream_function=said))
"""
"""Instead of the pages' own, which would ask OpenAI."""
URLS = "".join(f"from mysite.{name} import router as {name}\n" for name in ROUTERS) + (
    "from django.urls import include, path\n"
    "from django.http import HttpResponse\n"
    "from django.views.decorators.csrf import ensure_csrf_cookie\n"
    "page = ensure_csrf_cookie(lambda request: HttpResponse('page'))\n"
    f"urlpatterns = [path('page/', page), *(path('', include(one.urls)) for one in [{', '.join(ROUTERS)}])]\n"
)
PATIENCE = 120
STOPPED = (200, 202)
"""The answers to a stop: the run is over already, or about to be."""
CLIENT = """
await import("@assistant-ui/react-ai-sdk"); // before there is a document, which it would take for a browser's
const { ORIGIN } = process.env;
const native = globalThis.fetch;
let cookie = "";
globalThis.fetch = (url, init = {}) =>
  native(new URL(url, ORIGIN), { ...init, headers: { ...Object.fromEntries(new Headers(init.headers)), cookie } });
cookie = (await fetch("/page/")).headers.getSetCookie()[0].split(";")[0];
globalThis.document = { cookie };
const told = {};
"""
AI_SDK = """
const { csrf, transport, stop } = await import("./transport.js");
const { readUIMessageStream } = await import("ai");
async function text(stream, seen = () => {}) {
  let found = "";
  for await (const message of readUIMessageStream({ stream })) {
    found = message.parts.map((part) => part.text ?? "").join("");
    await seen(found, message);
  }
  return found;
}
function send(chatId, text, about = {}) {
  const messages = [{ id: "1", role: "user", parts: [{ type: "text", text }] }];
  return transport.sendMessages({ chatId, messages, trigger: "submit-message", ...about });
}
told.asked = await text(await send("one", "Wo?"));
told.afterwards = await transport.reconnectToStream({ chatId: "one" });
let stopped, ids = new Set();
told.stopped = await text(await send("two", "endless"), async (found, { id }) => {
  ids.add(id);
  if (stopped || !found.endsWith(".")) return;
  const again = await transport.reconnectToStream({ chatId: "two" });
  stopped = text(again, (found, { id }) => ids.add(id));
  told.status = (await stop()).status;
});
told.reloaded = await stopped;
told.ids = [...ids];
const left = new AbortController();
const leaving = send("three", "endless", { abortSignal: left.signal });
await text(await leaving, (found) => found.endsWith(".") && left.abort()).catch(() => {});
told.left = await text(await transport.reconnectToStream({ chatId: "three" }), async (found) => {
  if (found.endsWith(".") && !told.late) told.late = (await stop()).status;
});
"""
WORKFLOW = """
const kept = {};
globalThis.sessionStorage = {
  getItem: (key) => kept[key] ?? null,
  setItem: (key, value) => void (kept[key] = value),
  removeItem: (key) => void delete kept[key],
};
globalThis.window = { sessionStorage };
const workflow = await import("./workflow.js");
const asked = (chatId, text) => ({
  chatId,
  trigger: "submit-message",
  messages: [{ id: "1", role: "user", parts: [{ type: "text", text }] }],
});
let cut;
told.workflow = await text(await workflow.transport.sendMessages(asked("four", "endless")), async (found) => {
  if (cut || !found.endsWith(".")) return;
  told.pending = workflow.pending("four");
  cut = text(await workflow.transport.reconnectToStream({ chatId: "four" }));
  told.workflowStatus = (await workflow.stop("four")).status;
});
told.workflowReloaded = await cut;
told.over = workflow.pending("four");
told.again = await text(await workflow.transport.reconnectToStream({ chatId: "four" }));
const nothing = await workflow.transport.reconnectToStream({ chatId: "never" });
told.nothing = await nothing.getReader().read().catch((error) => error.message);
"""
ASSISTANT = """
const assistant = await import("./assistant.js");
let resumed;
const answered = await assistant.transport.sendMessages(asked("five", "endless"));
told.assistant = await text(answered, async (found) => {
  if (resumed || !found.endsWith(".")) return;
  const run = assistant.storage.getStreamId();
  resumed = text(await assistant.transport.reconnectToStream({ chatId: "five" }));
  told.assistantStatus = (await fetch(`/api/chat/${run}/stop`, { method: "POST", headers: csrf() })).status;
});
told.assistantResumed = await resumed;
told.forgotten = assistant.storage.getStreamId();
"""
AG_UI = """
const { agent } = await import("./agent.js");
agent.addMessage({ id: "1", role: "user", content: "Wo?" });
const result = await agent.runAgent();
told.agent = result.newMessages.map((message) => message.content).join("");
"""


def block(page: str, file: str) -> Block:
    (found,) = (one for one in blocks_of(HOWTO / f"{page}.rst") if one.file == file)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("protocols")
    blocks = [block(page, f"mysite/{name}.py") for page, names in FILES.items() for name in names]
    for name, text in (("agent", AGENT), ("urls", URLS)):
        blocks.append(replace(blocks[0], file=f"mysite/{name}.py", text=text))
    with model_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        with followed(folder, [*blocks, *with_apps("django_agent_sse")], "uvicorn mysite.asgi:application") as project:
            yield project


@pytest.fixture(scope="module")
def told(project: Project, node: Node) -> dict[str, Any]:
    """What the scripts of the pages, and the published clients below them, have got."""
    scripts = [("ai-sdk", f"src/{name}.js") for name in ("transport", "workflow", "assistant")]
    for page, file in (*scripts, ("ag-ui", "src/agent.js")):
        (node.folder / Path(file).name).write_text(block(page, file).text)
    program = node.folder / "pages_of_agents.mjs"
    program.write_text(f"{CLIENT}{AI_SDK}{WORKFLOW}{ASSISTANT}{AG_UI}console.log(JSON.stringify(told));\nprocess.exit(0);\n")
    return dict(json.loads(node.run(str(program), environment={"ORIGIN": project.server.url}).splitlines()[-1]))


def test_the_transport_of_the_page_gets_an_answer_and_finds_none_to_resume_after_it(told: dict[str, Any]) -> None:
    assert (told["asked"], told["afterwards"]) == (TEXT, None)


def test_a_reload_goes_on_and_the_stop_of_the_page_ends_both(told: dict[str, Any]) -> None:
    assert told["status"] in STOPPED
    assert told["stopped"].startswith(f"{TEXT}.")
    assert told["reloaded"].startswith(told["stopped"]) or told["stopped"].startswith(told["reloaded"])
    assert told["reloaded"].startswith(f"{TEXT}.")

    (id,) = told["ids"]
    assert id.startswith("run_"), "the answer has one id in both"


def test_who_leaves_stops_nothing(told: dict[str, Any]) -> None:
    assert told["left"].startswith(f"{TEXT}.")
    assert told["late"] in STOPPED


def test_the_workflow_transport_of_the_page_resumes_and_stops(told: dict[str, Any]) -> None:
    assert (told["pending"], told["over"]) == (True, False)
    assert told["workflowStatus"] in STOPPED
    assert told["workflow"].startswith(f"{TEXT}.")
    assert told["workflowReloaded"] == told["again"] == told["workflow"]
    assert told["nothing"].startswith("Failed to fetch chat: 204"), "so that the page asks first whether there is something"


def test_the_storage_of_assistant_ui_has_the_run_until_its_end(told: dict[str, Any]) -> None:
    assert told["assistantStatus"] in STOPPED
    assert told["assistantResumed"].startswith(f"{TEXT}.")
    assert told["assistant"].startswith(f"{TEXT}.")
    assert told["forgotten"] is None


def test_the_agent_of_the_page_answers(told: dict[str, Any]) -> None:
    assert told["agent"] == TEXT


def module(page: str, file: str) -> ModuleType:
    found = ModuleType(file)
    exec(compile(block(page, file).text, file, "exec"), vars(found))
    return found


def test_openais_client_gets_the_answer_of_the_endpoint(project: Project) -> None:
    ask = module("openai-endpoint", "clients/chat.py").ask
    assert list(ask("Wo?", f"{project.server.url}/v1")) == ["You ", "asked: ", "Wo? ", ""]


def test_langgraphs_client_gets_what_the_graph_says(project: Project) -> None:
    ask = module("langgraph", "clients/ask.py").ask
    assert "".join(ask("Wo?", "7", project.server.url)) == "You asked: Wo?"
    from langgraph_sdk import get_sync_client
    from langgraph_sdk.errors import AuthenticationError

    with get_sync_client(url=project.server.url, api_key="guessed") as client, pytest.raises(AuthenticationError):
        [*client.runs.stream("7", "agent", input={})]
    with get_sync_client(url=project.server.url, api_key="sk-91c4") as client:
        asked = {"messages": [{"role": "user", "content": "Wo?"}]}
        created, *parts = client.runs.stream("8", "agent", input=asked)
        assert {part.event for part in parts} == {"messages", "updates", "end"}
        assert [*client.runs.join_stream("8", created.data["run_id"])] == [created, *parts]
        status = client.runs.get("8", created.data["run_id"], headers={"Accept": "application/json"})["status"]
        assert status == "success"


def test_openais_client_goes_on_in_the_middle_of_a_response(project: Project) -> None:
    ask = module("openai-endpoint", "clients/responses.py").ask
    assert "".join(ask("Wo?", f"{project.server.url}/v1")) == TEXT
    from openai import OpenAI

    with OpenAI(base_url=f"{project.server.url}/v1", api_key="sk-91c4") as client:
        events = list(client.responses.create(model="m", input="Wo?", stream=True))
        id = events[0].response.id
        for number, event in enumerate(events[:-1]):
            assert event.sequence_number == number
            rest = list(client.responses.retrieve(id, stream=True, starting_after=number))
            assert [one.sequence_number for one in rest] == [one.sequence_number for one in events[number + 1 :]]


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("api/by-hand", {"id": "1", "messages": []}, ["start", "text-start", *["text-delta"] * 2, "text-end", "finish"]),
        (
            "by-hand/",
            {"threadId": "t", "runId": "r", "messages": []},
            ["RUN_STARTED", "TEXT_MESSAGE_START", *["TEXT_MESSAGE_CONTENT"] * 2, "TEXT_MESSAGE_END", "RUN_FINISHED"],
        ),
    ],
)
def test_what_is_written_by_hand_is_ended_by_its_wire(project: Project, path: str, body: Any, said: list[str]) -> None:
    with httpx.Client(base_url=project.server.url, timeout=PATIENCE) as client:
        client.get("/page/")
        answer = client.post(f"/{path}", json=body, headers={"X-CSRFToken": client.cookies["csrftoken"]})
    data = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [json.loads(one)["type"] for one in data] == said


def test_nothing_went_wrong_on_the_server(project: Project) -> None:
    assert "Traceback" not in project.server.printed(), project.server.printed()
