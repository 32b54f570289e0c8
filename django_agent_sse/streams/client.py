"""Who is at the other end of a stream, as far as the project wants that to be seen: address and user agent, cut short."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ..contrib.monitor.options import MonitorOptions

LONGEST = 200
"""Characters of a user agent that are kept."""
LOOKED_AT = 1_000
"""Characters of a header that are looked at; browsers send fewer than 300."""
_BROWSERS = (
    ("Edge", re.compile(r"Edg(?:A|iOS)?/(\d{1,9})")),
    ("Opera", re.compile(r"OPR/(\d{1,9})")),
    ("Samsung Internet", re.compile(r"SamsungBrowser/(\d{1,9})")),
    ("Firefox", re.compile(r"(?:Firefox|FxiOS)/(\d{1,9})")),
    ("Chrome", re.compile(r"(?:Chrome|CriOS|HeadlessChrome)/(\d{1,9})")),
    ("Safari", re.compile(r"Version/(\d{1,9})[^ ]{0,20} (?:Mobile/\S{1,20} )?Safari/")),
)
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)
_PRODUCT = re.compile(r"[A-Za-z][\w.-]{0,39}(?:/\d[\w.]{0,19})?")


def client_of(meta: Mapping[str, Any], options: MonitorOptions) -> tuple[str, str]:
    """Address and user agent of a request, ``""`` for what is unknown or switched off."""
    return _address(meta, options), _agent(meta, options)


def _address(meta: Mapping[str, Any], options: MonitorOptions) -> str:
    if options.address == "off":
        return ""
    remote = str(meta.get("REMOTE_ADDR") or "")
    hops = [*meta.get("HTTP_X_FORWARDED_FOR", "").rsplit(",", options.proxies), remote]
    found = hops[-1 - options.proxies] if options.proxies < len(hops) else remote
    try:
        address = ipaddress.ip_address(found[-LOOKED_AT:].strip().strip("[]"))
    except ValueError:  # a Unix socket has none, and what a client writes may be anything
        return ""
    if options.address == "full":
        return str(address)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network(f"{address}/{24 if address.version == 4 else 48}", strict=False))


def _agent(meta: Mapping[str, Any], options: MonitorOptions) -> str:
    agent = str(meta.get("HTTP_USER_AGENT") or "")[:LOOKED_AT]
    if options.user_agent == "off" or not agent:
        return ""
    return agent[:LONGEST] if options.user_agent == "full" else short_agent(agent)


def short_agent(agent: str) -> str:
    """``Chrome 156, Linux`` of a browser, ``curl/8.5`` of another program; nothing else that the header may hold."""
    agent = agent[:LOOKED_AT]
    system = next((name for part, name in _SYSTEMS if part in agent), "")
    for name, pattern in _BROWSERS:
        if found := pattern.search(agent):
            return f"{name} {found[1]}, {system}" if system else f"{name} {found[1]}"
    product = _PRODUCT.match(agent)
    return product[0] if product else ""
