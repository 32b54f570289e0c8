"""Numbers, sizes, times and lines as a page shows them: the same for the page that is rendered and for what comes after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from django.conf import settings
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.translation import get_language_bidi, gettext

WIDTH, HEIGHT = 120, 32
"""The view box of a sparkline."""
_LEFT_TO_RIGHT, _END = "\u2066", "\u2069"
_UNITS = ("B", "kB", "MB", "GB", "TB")


def number(value: float) -> str:
    """``1,234``, ``12.5``; at most three digits after the point where it is small."""
    if value >= 100 or value == int(value):
        return number_format(round(value), 0, use_l10n=True, force_grouping=True)
    return number_format(value, 1 if value >= 1 else 2, use_l10n=True)


def size(count: float) -> str:
    """``1.2 MB``, in powers of 1000."""
    for unit in _UNITS:
        if count < 999.5 or unit == _UNITS[-1]:
            break
        count /= 1000
    digits = 0 if unit == "B" or count >= 99.95 else 1
    text = f"{number_format(count, digits, use_l10n=True)} {unit}"
    return f"{_LEFT_TO_RIGHT}{text}{_END}" if get_language_bidi() else text  # else the unit would come before its number


def span(seconds: float) -> str:
    """``4 s``, ``3 min 12 s``, ``2 h 5 min``, ``4 d 7 h``."""
    whole = int(seconds)
    if whole < 60:
        return gettext("{seconds} s").format(seconds=whole)
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return gettext("{minutes} min {seconds} s").format(minutes=minutes, seconds=whole)
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return gettext("{hours} h {minutes} min").format(hours=hours, minutes=minutes)
    days, hours = divmod(hours, 24)
    return gettext("{days} d {hours} h").format(days=days, hours=hours) if hours else gettext("{days} d").format(days=days)


def moment(seconds: float) -> str:
    """``12 ms``, ``1.2 s``, then as ``span``: of what should take no time."""
    if seconds < 0.9995:
        return gettext("{milliseconds} ms").format(milliseconds=number_format(max(1, round(seconds * 1000)), 0))
    if seconds < 59.95:
        return gettext("{seconds} s").format(seconds=number_format(round(seconds, 1), 1, use_l10n=True))
    return span(seconds)


def ago(seconds: float) -> str:
    """``3 min 12 s ago``."""
    return gettext("{span} ago").format(span=span(seconds))


def clock(at: float) -> str:
    """The time of a day; before today with the date."""
    zone = timezone.get_current_timezone() if settings.TIME_ZONE else None  # the system's
    when = datetime.fromtimestamp(at, UTC).astimezone(zone)
    today = datetime.now(UTC).astimezone(zone).date() == when.date()
    return date_format(when, "H:i:s" if today else "DATE_FORMAT") + ("" if today else date_format(when, " H:i"))


def spark(points: Sequence[float]) -> tuple[str, str]:
    """The ``d`` of a line through these points, and of the area below it."""
    top = max(points, default=0) or 1
    step = WIDTH / max(1, len(points) - 1)
    line = " ".join(f"{place * step:.4g},{HEIGHT - 2 - value / top * (HEIGHT - 5):.4g}" for place, value in enumerate(points))
    return f"M{line}", f"M0,{HEIGHT} L{line} {WIDTH},{HEIGHT} Z"
