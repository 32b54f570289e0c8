"""The site's addresses: one prefix for each module of routes, and what tests ask the process itself."""

from __future__ import annotations

from django.contrib.staticfiles.views import serve
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from . import gates, monitoring, state
from .routes import access, agents, ai_sdk, answers, client, data, life, llm, origins, parity, runs, sdk, topics, verbs


async def blank_page(request: HttpRequest) -> HttpResponse:
    """A page for a browser to stand on."""
    return HttpResponse("<!doctype html><title>blank</title>")


urlpatterns = [
    path("_state/", state.state),
    path("_health/", include("django_agent_sse.contrib.health")),
    path("_ping/", state.ping),
    path("_board/", monitoring.look),
    path("_command/", monitoring.command),
    path("_gate/", gates.open_gate),
    path("_page/", blank_page),
    path("", include(agents.langgraph.urls)),
    path("access/asked/", access.asked),
    path("access/change/<str:name>/", access.change),
    path("access/close/", access.close),
    path("access/grant/<str:name>/", access.grant),
    path("access/people/", access.people),
    path("access/tell/<slug:name>/", access.tell),
    path("access/", include(access.router.urls)),
    path("agents/", include(agents.router.urls)),
    path("ai/", include(ai_sdk.router.urls)),
    path("answers/", include(answers.router.urls)),
    path("client/talk/<slug:topic>/", client.talk),
    path("client/tell/<slug:name>/", client.tell),
    path("client/in/<slug:name>/", client.sign_in),
    path("client/out/", client.sign_out),
    path("client/rekey/", client.new_session_key),
    path("client/", include(client.router.urls)),
    path("data/", include(data.router.urls)),
    path("life/", include(life.router.urls)),
    path("llm/", include(llm.router.urls)),
    path("origins/address/", origins.address),
    path("origins/cookie/", origins.third_party_cookie),
    path("origins/", include(origins.router.urls)),
    path("parity/", include(parity.router.urls)),
    path("runs/", include(runs.router.urls)),
    path("sdk/", include(sdk.router.urls)),
    path("topics/produce/<slug:topic>/", topics.produce),
    path("topics/stamped/<slug:topic>/", topics.stamped),
    path("topics/", include(topics.router.urls)),
    path("verbs/", include(verbs.router.urls)),
    path("static/<path:path>", serve, {"insecure": True}),
]
