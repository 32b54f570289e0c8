"""``AGENT_SSE["LIMITS"]``: how much one client, one route and all of them may take of this project and of one process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

from .. import conf
from ..conf import CountOrNone, Rule, rules_of
from ..exceptions import ConfigurationError
from ..runtime.suggestions import suggest

ShareOrNone: TypeAlias = Annotated[
    float | None,
    Rule(lambda value: value is None or (type(value) is float and 0 < value < 1), "a share between 0.0 and 1.0, or None"),
]
BytesOrNone: TypeAlias = Annotated[
    int | None,
    Rule(lambda value: value is None or (type(value) is int and value >= 65_536), "a number of bytes from 65536, or None"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The keys of ``AGENT_SSE["LIMITS"]``, in small letters; ``None`` switches one off, and all where the setting is ``None``.

    The first three are counted over all processes, see ``streams/shared_counts.py``; the others in each process by itself, since
    what they guard is the process.

    Attributes:
        user: Streams of one user. Two browsers with every place that HTTP/2 gives a connection: see ``session``.
        session: Streams of one session. A browser opens at most 6 over HTTP/1.1; over HTTP/2 at most as many as the server
            allows a connection, which is 128 in nginx (``http2_max_concurrent_streams``) and in Caddy 250, for all it fetches.
        address: Streams of one address, or of one IPv6 network of 64 bits, which is what one customer gets (RFC 6177). Many
            people may share an address: 250 of them with 4 tabs each.
        route: Streams of one route: nine tenths of ``process``, so that no route keeps all others out.
        process: Streams of one process. 10,000 are 280 MB, and a few per cent of a core while little happens.
        descriptors: The share of the process's descriptors that is kept for other requests; with the usual limit of 1,024, which
            ``process`` never meets, 205.
        connects: Streams that begin in a second. One costs 0.5 to 2 ms of a core, so these are half a core or all of it. Twice
            as many may come at once.
        address_connects: The same from one address. All that ``address`` allows may come at once, as after a restart.
        unknown: Requests of one address that middleware and guards look at, at a time: three quarters of the 64 threads of
            ``REQUEST_THREADS``, so that no address takes them all. Others of it wait in line, for 10 seconds at most.
        replays: Streams that catch up with a topic, at a time. Others wait for their turn; one page of 1 MiB is read for each.
        replay_bytes: Bytes a second that all of these get together, 128 MiB: about a third of a core, where events are small.
    """

    user: CountOrNone = 256
    session: CountOrNone = 128
    address: CountOrNone = 1_000
    route: CountOrNone = 9_000
    process: CountOrNone = 10_000
    descriptors: ShareOrNone = 0.2
    connects: CountOrNone = 500
    address_connects: CountOrNone = 50
    unknown: CountOrNone = 48
    replays: CountOrNone = 16
    replay_bytes: BytesOrNone = 134_217_728

    def __post_init__(self) -> None:
        for name, rule in rules_of(type(self)).items():
            if not rule.holds(value := getattr(self, name)):
                raise ConfigurationError(
                    f"AGENT_SSE['LIMITS'][{name.upper()!r}] must be {rule.expected}, not {conf.shown(value)}"
                )


NAMES = tuple(Limits.__dataclass_fields__)
UNLIMITED = Limits(**dict.fromkeys(NAMES))


def limits() -> Limits:
    """Return the limits in force; raise ``ConfigurationError`` for a key or a value that does not exist."""
    global _read
    setting = conf.setting("LIMITS")
    if _read is None or _read[0] is not setting:
        _read = setting, _parsed(setting)
    return _read[1]


def _parsed(setting: object) -> Limits:
    if setting is None:
        return UNLIMITED
    keys = [name.upper() for name in NAMES]
    if not isinstance(setting, Mapping):
        raise ConfigurationError(
            f"AGENT_SSE['LIMITS'] is {conf.shown(setting)}; it is a dict with any of {', '.join(keys)}, or None for no limits"
        )
    for name in setting:
        if name not in keys:
            raise ConfigurationError(f"AGENT_SSE['LIMITS'][{name!r}] does not exist; {suggest(str(name).upper(), keys)}")
    return Limits(**{name.lower(): value for name, value in setting.items()})


_read: tuple[Any, Limits] | None = None
