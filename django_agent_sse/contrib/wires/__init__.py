"""How agent protocols spell a run: what ``wire=`` of a run takes. None of the protocols' own packages is needed.

- ``AI_SDK``: Vercel's AI SDK, UI message stream v1 (``useChat``)
- ``AG_UI``: AG-UI 1.0 (``@ag-ui/client``, CopilotKit, TanStack AI)
- ``OPENAI_CHAT``: OpenAI's chat completions
- ``OPENAI_RESPONSES``: OpenAI's Responses
- ``ANTHROPIC``: Anthropic's Messages
- ``LANGGRAPH``: LangGraph's server (``langgraph-sdk``)
- ``PLAIN``: no protocol
"""

from __future__ import annotations

from ...runs.wire import PLAIN, Wire
from .ag_ui import AG_UI
from .ai_sdk import AI_SDK
from .anthropic import ANTHROPIC
from .langgraph import LANGGRAPH
from .openai_chat import OPENAI_CHAT
from .openai_responses import OPENAI_RESPONSES

__all__ = ["AG_UI", "AI_SDK", "ANTHROPIC", "LANGGRAPH", "OPENAI_CHAT", "OPENAI_RESPONSES", "PLAIN", "Wire"]
