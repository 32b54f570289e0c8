"""The client of a stream, as far as the project wants it to be seen: its address and its user agent, cut short."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from .. import conf
from ..conf import Rule, one_of, rules_of
from ..exceptions import ConfigurationError

Shown: TypeAlias = Annotated[Literal["truncated", "full", "off"], one_of("truncated", "full", "off")]
Proxies: TypeAlias = Annotated[int, Rule(lambda value: type(value) is int and value >= 0, "a whole number from 0")]

LONGEST = 200
"""Characters of a user agent that are kept in full."""
SHORT = 80
"""Characters of a user agent that is cut short."""
LOOKED_AT = 1_000
"""Characters of a header that are looked at; browsers send fewer than 300."""
_PRODUCT = re.compile(r"\b(?!(?:Mozilla|AppleWebKit|Gecko)/)[A-Za-z][\w.-]{0,39}/\d[\w.]{0,19}")
"""A product and its version (RFC 9110, 10.1.5), but for those that all browsers name, which would take the room of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What of a client may be seen: keys of ``AGENT_SSE["MONITOR"]``, in small letters.

    Attributes:
        address: The client's address: ``truncated`` to its network, ``full`` or ``off``.
        user_agent: Its ``User-Agent``: its products (``truncated``), as sent (``full``), or ``off``.
        proxies: Proxies of yours before the server: so many entries of ``X-Forwarded-For``, from the right, are theirs.
    """

    address: Shown = "truncated"
    user_agent: Shown = "truncated"
    proxies: Proxies = 0

    def __post_init__(self) -> None:
        for name, rule in rules_of(type(self)).items():
            if not rule.holds(value := getattr(self, name)):
                raise ConfigurationError(f"AGENT_SSE['MONITOR'][{name.upper()!r}] is {conf.shown(value)}; it is {rule.expected}")


def client_options() -> ClientOptions:
    """Return the options in force; raise ``ConfigurationError`` for a value that one cannot have."""
    global _made
    setting = conf.setting("MONITOR")
    if _made is None or _made[0] is not setting:
        names = ClientOptions.__dataclass_fields__ if isinstance(setting, Mapping) else ()
        _made = setting, ClientOptions(**{name: setting[name.upper()] for name in names if name.upper() in setting})
    return _made[1]


_made: tuple[Any, ClientOptions] | None = None


def client_of(meta: Mapping[str, Any], options: ClientOptions) -> tuple[str, str]:
    """Return the address and the user agent of a request, ``""`` for what is unknown or switched off."""
    return _address(meta, options), _agent(meta, options)


def _address(meta: Mapping[str, Any], options: ClientOptions) -> str:
    if options.address == "off":
        return ""
    remote = str(meta.get("REMOTE_ADDR") or "")
    hops = [*meta.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", options.proxies), remote]
    nearest = hops[-1 - options.proxies] if options.proxies < len(hops) else remote
    try:
        address = ipaddress.ip_address(nearest[-LOOKED_AT:].strip().strip("[]"))
    except ValueError:  # a Unix socket has none, and what a client writes may be anything
        return ""
    if options.address == "full":
        return str(address)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False))


def _agent(meta: Mapping[str, Any], options: ClientOptions) -> str:
    agent = str(meta.get("HTTP_USER_AGENT") or "")[:LOOKED_AT]
    if options.user_agent == "off":
        return ""
    return agent[:LONGEST] if options.user_agent == "full" else short_agent(agent)


def short_agent(agent: str) -> str:
    """Return the products that a user agent names, such as ``Firefox/148.0``, and nothing else that it may hold."""
    return " ".join(_PRODUCT.findall(agent[:LOOKED_AT]))[:SHORT]
