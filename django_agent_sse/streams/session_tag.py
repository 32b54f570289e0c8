"""Who asks for a stream, as a short tag: tabs of a browser share a connection only while they are the same."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Any

from django.conf import settings

from .context import Context

SESSION_HEADER = "Agent-SSE-Session"
"""On each event stream, and on the answer to HEAD: ``<account>.<session>``. A guard may set another with ``c.set_header()``."""

_SIGNED_COOKIES = "django.contrib.sessions.backends.signed_cookies"


def session_tag(c: Context) -> str:
    """The account, and the session of it, that a request belongs to. Costs no query, and tells nothing but that two are the same.

    The account is the user; all who are not signed in have one. The session is its key, and the ``Authorization`` header. A
    session that is kept in its cookie has no key: what stands for it there is another text after each change.
    """
    session: Any = getattr(c.request, "session", None)
    key = getattr(session, "session_key", None) or ""
    if key and type(session).__module__ == _SIGNED_COOKIES:
        key = ""
    sent = f"{key}\n{c.header('Authorization', '')}"
    account = f"{c._user_label}\n{c.user_pk}\n"
    secret = _key(settings.SECRET_KEY)
    return f"{_digest(secret, account)}.{_digest(secret, account + sent)}"


@lru_cache(maxsize=4)
def _key(secret: str | bytes) -> bytes:
    return hashlib.sha256(b"django_agent_sse.session_tag" + (secret if isinstance(secret, bytes) else secret.encode())).digest()


def _digest(key: bytes, text: str) -> str:
    return urlsafe_b64encode(hashlib.blake2b(text.encode(errors="surrogatepass"), key=key, digest_size=12).digest()).decode()
