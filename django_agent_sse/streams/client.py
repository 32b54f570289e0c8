"""``AGENT_SSE["MONITOR"]``, and the client of a stream as far as it wants it to be seen: address and user agent, cut short."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from django.http import HttpRequest

from .. import conf
from ..conf import Switch, one_of, rules_of
from ..exceptions import ConfigurationError
from ..runtime.suggestions import suggest
from .addresses import client_ip

Shown: TypeAlias = Annotated[Literal["truncated", "full", "off"], one_of("truncated", "full", "off")]

LONGEST = 200
"""Characters of a user agent that are kept in full."""
SHORT = 80
"""Characters of a user agent that is cut short."""
LOOKED_AT = 1_000
"""Characters of a header that are looked at; browsers send fewer than 300."""
MOVED = (
    "AGENT_SSE['MONITOR']['PROXIES'] is AGENT_SSE['PROXIES'] now, for limits and the monitor alike: move it there, one level up"
)
_PRODUCT = re.compile(r"\b(?!(?:Mozilla|AppleWebKit|Gecko)/)[A-Za-z][\w.-]{0,39}/\d[\w.]{0,19}")
"""A product and its version (RFC 9110, 10.1.5), but for those that all browsers name, which would take the room of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorOptions:
    """What the monitor collects, and what of a client may be seen: the keys of ``AGENT_SSE["MONITOR"]``, in small letters.

    Attributes:
        reports: Whether this process tells the others what it has open.
        address: The client's address: ``truncated`` to its network, ``full`` or ``off``.
        user_agent: Its ``User-Agent``: its products (``truncated``), as sent (``full``), or ``off``.
    """

    reports: Switch = True
    address: Shown = "truncated"
    user_agent: Shown = "truncated"

    def __post_init__(self) -> None:
        for name, rule in rules_of(type(self)).items():
            if not rule.holds(value := getattr(self, name)):
                raise ConfigurationError(f"AGENT_SSE['MONITOR'][{name.upper()!r}] is {conf.shown(value)}; it is {rule.expected}")


def monitor_options() -> MonitorOptions:
    """Return the options in force; raise ``ConfigurationError`` for a key or a value that does not exist."""
    global _read
    setting = conf.setting("MONITOR")
    if _read is None or _read[0] is not setting:
        keys = [name.upper() for name in MonitorOptions.__dataclass_fields__]
        if not isinstance(setting, Mapping):
            raise ConfigurationError(f"AGENT_SSE['MONITOR'] is {conf.shown(setting)}; it is a dict with any of {', '.join(keys)}")
        for name in setting:
            if name == "PROXIES":
                raise ConfigurationError(MOVED)
            if name not in keys:
                raise ConfigurationError(f"AGENT_SSE['MONITOR'][{name!r}] does not exist; {suggest(str(name).upper(), keys)}")
        _read = setting, MonitorOptions(**{name.lower(): value for name, value in setting.items()})
    return _read[1]


_read: tuple[Any, MonitorOptions] | None = None


def client_of(request: HttpRequest, options: MonitorOptions) -> tuple[str, str]:
    """Return the address and the user agent of a request, ``""`` for what is unknown or switched off."""
    meta = request.META
    agent = "" if options.user_agent == "off" else str(meta.get("HTTP_USER_AGENT") or "")
    return _address(request, options), agent[:LONGEST] if options.user_agent == "full" else short_agent(agent)


def _address(request: HttpRequest, options: MonitorOptions) -> str:
    if options.address == "off":
        return ""
    known = client_ip(getattr(request, "scope", {}), conf.setting("PROXIES"))
    return shown_address(str(known or request.META.get("REMOTE_ADDR") or ""), options)


def shown_address(text: str, options: MonitorOptions) -> str:
    """Return an address as far as it may be seen; ``""`` for what is none."""
    if options.address == "off":
        return ""
    try:
        address = ipaddress.ip_address(text[-LOOKED_AT:].strip().strip("[]").partition("/")[0])
    except ValueError:  # a Unix socket has none, and what a client writes may be anything
        return ""
    if options.address == "full":
        return str(address)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False))


def short_agent(agent: str) -> str:
    """Return the products that a user agent names, such as ``Firefox/148.0``, and nothing else that it may hold."""
    return " ".join(_PRODUCT.findall(agent[:LOOKED_AT]))[:SHORT]
