"""Topics are dealt out evenly, and stay where they are when a server is added."""

from __future__ import annotations

from collections import Counter

from django_agent_sse.eventlog.redis.server import shard_of

NODES = ("10.0.0.1:6379/0", "10.0.0.2:6379/0", "10.0.0.3:6379/0")
TOPICS = [f"builds.{number}" for number in range(9_000)]


def places(nodes: tuple[str, ...]) -> dict[str, str]:
    return {topic: nodes[shard_of(topic, nodes)] for topic in TOPICS}


def test_each_server_gets_about_its_share() -> None:
    assert all(2_700 < count < 3_300 for count in Counter(places(NODES).values()).values())


def test_the_order_of_the_urls_does_not_matter() -> None:
    assert places(NODES) == places(NODES[::-1])


def test_a_server_more_takes_its_share_and_moves_nothing_else() -> None:
    before, after = places(NODES), places((*NODES, "10.0.0.4:6379/0"))
    moved = {topic for topic in TOPICS if before[topic] != after[topic]}
    assert {after[topic] for topic in moved} == {"10.0.0.4:6379/0"}
    assert 1_900 < len(moved) < 2_600


def test_a_server_less_moves_only_its_own() -> None:
    before, after = places(NODES), places(NODES[:2])
    assert all(after[topic] == before[topic] for topic in TOPICS if before[topic] != NODES[2])
