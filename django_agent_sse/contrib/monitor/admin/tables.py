"""The tables of the monitor's page beside that of streams: routes, what went wrong, who was refused, runs, processes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils.translation import gettext

from django_agent_sse.runtime import formatting
from django_agent_sse.streams.counters import RouteCounts
from django_agent_sse.streams.endings import Ending

from ..cluster import ClusterSnapshot, ProcessStatus
from ..history import Past, Percentile, percentiles, problems_of
from ..inspector import LimitRow, RefusedRow, RunRow
from . import labels

LISTED = 200
"""Rows of one of these tables at most."""
CAUSES = 3
"""Causes that a row names."""
GOOD = (Ending.COMPLETED, Ending.TOPIC_CLOSED, Ending.CLIENT_DISCONNECT, Ending.MAX_DURATION, Ending.SHUTDOWN)
"""Endings that are nobody's trouble."""
SPREADS = {"start": "starts", "length": "durations", "behind": "behind"}
"""Columns of routes that are percentiles, and of what."""
NOTHING = "–"
NO_BREAK = "\xa0"

Row = dict[str, Any]
_NOTHING_DONE = RouteCounts()


def routes(past: Past, sort: str) -> list[Row]:
    """Return what each route has open now, and what it did in the last hour: the first ``LISTED`` in this order."""
    key = sort.lstrip("-")

    def order(route: str) -> Any:
        hour = past.routes.get(route, _NOTHING_DONE)
        if key in SPREADS:
            name = SPREADS[key]
            (found,) = percentiles(name, getattr(hour, name), (0.95,))
            return -1.0 if found is None else found.value
        values = {"open": past.open.get(route, 0), "opened": hour.opened, "errors": hour.errors}
        return sum(hour.refused.values()) if key == "refused" else values.get(key, route)

    names = sorted(past.names)
    names.sort(key=order, reverse=sort.startswith("-"))
    return [_route(route, past.open.get(route, 0), past.routes.get(route, _NOTHING_DONE)) for route in names[:LISTED]]


def _route(route: str, open_now: int, hour: RouteCounts) -> Row:
    starts = percentiles("starts", hour.starts)
    lengths = percentiles("durations", hour.durations)
    behind = percentiles("behind", hour.behind)
    return {
        "id": route,
        "route": route,
        "open": formatting.number(open_now),
        "opened": formatting.number(hour.opened),
        **_spread("start", starts, formatting.moment),
        **_spread("length", lengths, formatting.moment),
        **_spread("behind", behind, formatting.number),
        "errors": formatting.number(hour.errors),
        "refused": formatting.number(sum(hour.refused.values())),
        "alarm": "1" if hour.errors else "",
    }


def _spread(name: str, found: Sequence[Percentile | None], text: Any) -> dict[str, str]:
    """Return the 95th percentile, and the 50th and 99th as what stands below it."""
    half, most, nearly_all = (told(percentile, text) for percentile in found)
    if found[0] is None:
        return {name: most, f"{name}_more": ""}
    values = {"half": half.replace(" ", NO_BREAK), "most": nearly_all.replace(" ", NO_BREAK)}
    below = gettext("50%: {half}; 99%: {most}").format_map(values).replace(": ", f":{NO_BREAK}").replace(" %", f"{NO_BREAK}%")
    return {name: most, f"{name}_more": below}


def told(percentile: Percentile | None, text: Any) -> str:
    """Return a percentile in words."""
    if percentile is None:
        return NOTHING
    value = round(percentile.value) if text is formatting.number else percentile.value
    return gettext("over {value}").format(value=text(value)) if percentile.more else str(text(value))


def problems(past: Past) -> tuple[list[Row], int]:
    """Return what went wrong in the last hour, the newest first, and how much there is."""
    causes = defaultdict[tuple[str, str], Counter[str]](Counter)
    for route, counts in past.routes.items():
        for key, count in counts.causes.items():
            word, _, cause = key.partition("/")
            causes[route, word][cause] += count
    found = list[Row]()
    for (route, kind, word), count in problems_of({**past.routes}, GOOD).items():
        at, some = past.last.get((route, kind, word), 0.0), causes[route, word].most_common(CAUSES + 1)
        named = [f"{cause} ({formatting.number(times)})" if len(some) > 1 else cause for cause, times in some[:CAUSES]]
        found.append(
            {
                "id": f"{kind} {word} {route}",
                "what": words_for(kind, word),
                "route": route,
                "cause": ", ".join([*named, *(["…"] if len(some) > CAUSES else [])]),
                "count": formatting.number(count),
                "last": formatting.clock(at) if at else NOTHING,
                "_at": at,
            }
        )
    found.sort(key=lambda row: (-row["_at"], row["id"]))
    for row in found:
        del row["_at"]
    return found[:LISTED], len(found)


def words_for(kind: str, word: str) -> str:
    known = labels.TROUBLES.get((kind, word))
    return word if known is None else str(known)


def refused(rows: Iterable[RefusedRow], names: Mapping[str, str]) -> list[Row]:
    """Return who was refused streams the most often."""
    return [
        {
            "id": f"{row.reason} {row.user} {row.address}",
            "what": words_for("refused", row.reason),
            "user": names.get(row.user, row.user) if row.user else gettext("anonymous"),
            "address": row.address,
            "count": formatting.number(row.times),
        }
        for row in rows
    ]


def limits(rows: Iterable[tuple[str, LimitRow]], names: Mapping[str, str], processes: Mapping[str, str]) -> list[Row]:
    """Return who meets limits, or is near them. A user's or an address's streams of all processes are one row."""
    here = Counter[tuple[str, tuple[str, str, str, str, int]]]()
    for process, row in rows:
        counted_here = not (row.user or (row.of and row.limit != "route"))
        key = row.limit, row.user, row.of, processes.get(process, process) if counted_here else "", row.most
        here[process, key] = max(here[process, key], row.open)  # several addresses are one where they are shown cut short
    sums = Counter[tuple[str, str, str, str, int]]()
    for (_, key), count in here.items():
        sums[key] += count
    found = sorted(sums.items(), key=lambda pair: (-pair[1] / max(1, pair[0][4]), pair[0]))
    return [
        {
            "id": f"{limit} {user} {of} {process}",
            "what": words_for("refused", f"limit_{limit}"),
            "who": (names.get(user, user) if user else of) or NOTHING,
            "process": process,
            "open": gettext("{count} of {most}").format(count=formatting.number(count), most=formatting.number(most)),
        }
        for (limit, user, of, process, most), count in found[:LISTED]
    ]


def runs(rows: Iterable[tuple[str, RunRow, RunRow]], cluster: ClusterSnapshot, page: Any) -> list[Row]:
    """Return the runs that go on: the process of each, and it as shown and as it is. ``page`` gives a topic's address."""
    names = {status.snapshot.process.id: status.snapshot.process.name for status in cluster.processes}
    return [
        {
            "id": f"{id} {shown.topic} {shown.id}",
            "topic": shown.topic,
            "run": shown.id,
            "process": names.get(id, id),
            "href": page(run.topic),
        }
        for id, shown, run in rows
    ][:LISTED]


def processes(cluster: ClusterSnapshot) -> list[Row]:
    """Return the processes; of more than ``LISTED`` those come first that are late, or gone."""
    found = list(cluster.processes)
    if len(found) > LISTED:
        found.sort(key=lambda status: status.state not in ("late", "gone"))
    return [process(status) for status in found[:LISTED]]


def process(status: ProcessStatus) -> Row:
    """Return one process."""
    snapshot, gone = status.snapshot, status.state == "gone"
    state = "draining" if snapshot.draining and status.state == "reporting" else status.state
    arrival = percentiles("arrivals", snapshot.arrivals, (0.95,))[0]
    return {
        "id": snapshot.process.id,
        "name": snapshot.process.name,
        "since": gettext("since {time}").format(time=formatting.clock(snapshot.process.since)),
        "open": NOTHING if gone else formatting.number(snapshot.total("open")),
        "slow": NOTHING if gone else formatting.number(snapshot.total("slow")),
        "runs": NOTHING if gone else formatting.number(snapshot.running),
        "opened": formatting.number(snapshot.total("opened")),
        "arrival": told(arrival, formatting.moment),
        "reported": formatting.ago(status.age),
        "state": state,
        "state_label": str(labels.PROCESS_STATES[state]),
        "act": "" if status.state in ("idle", "gone") else gettext("Resume…") if state == "draining" else gettext("Drain…"),
    }
