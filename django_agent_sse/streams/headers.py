"""Headers and cookies that a project sets: what no server can send is refused where it is set, not by a cut connection.

And hosts, as browsers write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from wsgiref.util import is_hop_by_hop

from ..exceptions import StreamError
from ..runtime.safe_text import printable

HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token of RFC 9110, section 5.6.2."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Without the tab, which a value may hold, and line breaks, which Django refuses with an error of its own."""
_NOT_IN_COOKIES: Final = re.compile(r"[\x00-\x1f\x7f;]")
_OWNED_BY_THE_STREAM: Final = frozenset(
    {"content-type", "content-encoding", "content-length", "incremental", "x-accel-buffering"}
)


def check_header(name: str, value: object) -> None:
    """Raise ``StreamError`` for a name that is no token, or a value with a control character. Django refuses line breaks."""
    if not HEADER_NAME.fullmatch(name) and not {"\r", "\n"} & {*name}:
        raise StreamError(f"'{printable(name, 40)}' is not the name of a header: write letters, digits and '-'")
    if match := _CONTROL.search(str(value)):
        raise StreamError(f"the value of {name} holds {match[0]!r}: a header holds no control characters; quote() or drop them")


def check_free(name: str) -> None:
    """Raise ``StreamError`` for a header that the stream or the server sets."""
    if name.lower() in _OWNED_BY_THE_STREAM or is_hop_by_hop(name):
        raise StreamError(f"{name} is set by the stream or the server; an answer takes it as c.json(…, headers={{…}})")


def check_cookie(options: Mapping[str, object]) -> None:
    """Raise ``StreamError`` for an option that would begin another one, or a header: Python writes options as they are."""
    for option, value in options.items():
        if isinstance(value, str) and (match := _NOT_IN_COOKIES.search(value)):
            raise StreamError(f"the cookie's {option} holds {match[0]!r}, which would begin another option or header")


def plain_host(host: str) -> str:
    """Return a host without a port that is usual: browsers leave it out, proxies may write it (``$host:$server_port``)."""
    return host.lower().removesuffix(":443").removesuffix(":80")
