"""Whose request it is: the address that limits are counted by, and that the monitor shows. One setting says whom to believe.

What a client writes is believed only where ``AGENT_SSE["PROXIES"]`` says that a proxy of the project has written it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

FORWARDED_BY_PROXIES = frozenset(
    (b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip")
)
"""A request that has one of these came through a proxy."""
LONGEST = 64
"""Characters of an address; the longest in use, IPv6 with brackets, a zone and a port, has fewer."""
NETWORK_BITS = 64
"""Of an IPv6 address: what one customer gets is never less (RFC 6177), and whoever has it has 2^64 addresses."""
UNREADABLE = "unreadable"
"""What all requests are counted by together whose address the server has read from a header that holds none."""
_SOCKETS = ("/", "unix:")
"""So begins what servers and nginx write where a client came through a Unix socket, which has no address."""
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")
"""In here are all addresses of IPv4, as translators before an IPv6 server write them (RFC 6052): one network, many customers."""


def client_address(scope: Mapping[str, Any], proxies: int | str | None) -> str | None:
    """Return what a request is counted by: of IPv4 the address, of IPv6 its network; ``None`` where nobody knows.

    A server that believes ``X-Forwarded-For`` by itself, as uvicorn does, hands on whatever stands there. Where that is no
    address the peer's own is gone, and all such requests are ``UNREADABLE``: else a client would choose not to be counted.
    """
    address = client_ip(scope, proxies)
    return UNREADABLE if address is None and _is_made_up(scope) else _counted(address)


def _is_made_up(scope: Mapping[str, Any]) -> bool:
    """Whether the server's word about the client is no address, though it had a header to take one from."""
    text = _peer(scope)
    return bool(text) and not text.startswith(_SOCKETS) and _parsed(text) is None and _is_forwarded(scope)


def client_ip(scope: Mapping[str, Any], proxies: int | str | None) -> IP | None:
    """Return the address of a request's client; ``None`` where nobody knows.

    Args:
        scope: The request's, as the server made it.
        proxies: ``AGENT_SSE["PROXIES"]``. A number: so many entries of ``X-Forwarded-For``, from the right, are those of
            proxies of the project. A name: the header in which a proxy of the project writes the address. ``None``: not said.
            The server's own word is taken then, unless it is that of a machine near by which has come as a proxy does:
            to count that one would be to count all clients as one.
    """
    peer = _parsed(_peer(scope))
    headers: Headers = scope.get("headers", ())
    if proxies is None:
        if _is_forwarded(scope) and peer is not None and not peer.is_global:  # which takes long to tell
            return None
    elif isinstance(proxies, str):
        return _parsed(_last(headers, proxies)) or peer
    elif proxies:
        hops = _last(headers, "x-forwarded-for", joined=True).rsplit(",", proxies)
        return (_parsed(hops[-proxies]) if proxies <= len(hops) else None) or peer
    return peer


def _peer(scope: Mapping[str, Any]) -> str:
    return str((scope.get("client") or ("",))[0])


def _is_forwarded(scope: Mapping[str, Any]) -> bool:
    return any(name.lower() in FORWARDED_BY_PROXIES for name, _ in scope.get("headers", ()))


def _last(headers: Headers, name: str, *, joined: bool = False) -> str:
    wanted = name.lower().encode()
    values = [value.decode("latin-1") for key, value in headers if key.lower() == wanted]
    return ",".join(values) if joined else values[-1] if values else ""


def _parsed(text: str) -> IP | None:
    """Return the address that a text is, also with a port or in brackets."""
    text = text.strip()[: LONGEST + 1]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:  # a Unix socket has none, and what a client writes may be anything
        return None
    if not isinstance(found, ipaddress.IPv6Address):
        return found
    return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF) if found in _TRANSLATED else found.ipv4_mapped or found


def _counted(address: IP | None) -> str | None:
    if isinstance(address, ipaddress.IPv6Address):
        return f"{ipaddress.IPv6Address(int(address) >> NETWORK_BITS << NETWORK_BITS)}/{NETWORK_BITS}"
    return None if address is None else str(address)
