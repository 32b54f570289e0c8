"""So many a second, so many at once: of one, of each of many, and never more memory than is stated."""

from __future__ import annotations

import random

from django_agent_sse.streams import rates
from django_agent_sse.streams.rates import Rates


def test_a_burst_is_let_through_and_then_the_rate() -> None:
    counted = Rates()
    assert [counted.take("a", 10.0, rate=10, burst=5) for _ in range(5)] == [0.0] * 5
    assert 0.09 < counted.take("a", 10.0, rate=10, burst=5) <= 0.1
    assert counted.take("a", 10.1, rate=10, burst=5) == 0.0
    assert counted.take("a", 10.1, rate=10, burst=5) > 0
    assert counted.take("b", 10.1, rate=10, burst=5) == 0.0, "another one's"


def test_over_any_time_no_more_are_let_through_than_rate_and_burst_say() -> None:
    drawn = random.Random(7)
    counted, now, let_in = Rates(), 0.0, 0
    for _ in range(5_000):
        now += drawn.uniform(0, 0.01)
        let_in += counted.take("a", now, rate=50, burst=100) == 0.0
    assert 100 + 50 * now - 1 <= let_in <= 100 + 50 * now + 1


def test_what_is_refused_is_not_counted() -> None:
    counted = Rates()
    for _ in range(1_000):
        counted.take("a", 0.0, rate=1, burst=1)
    assert counted.take("a", 1.0, rate=1, burst=1) == 0.0


def test_a_flood_of_addresses_takes_no_more_memory_than_is_stated() -> None:
    counted = Rates()
    for number in range(3 * rates.MOST_COUNTED):
        counted.take(number, 0.0, rate=1, burst=1)
    assert len(counted._due) == rates.MOST_COUNTED
    assert counted.take(0, 0.0, rate=1, burst=1) == 0.0, "the oldest is forgotten"
    assert counted.take(3 * rates.MOST_COUNTED - 1, 0.0, rate=1, burst=1) > 0
