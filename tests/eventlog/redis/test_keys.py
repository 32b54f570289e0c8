"""The names of keys: one slot for a topic, none that two topics share."""

from __future__ import annotations

import re
from pathlib import Path

from django_agent_sse.eventlog.redis import keys as module
from django_agent_sse.eventlog.redis.keys import Keys


def tag(key: str) -> str:
    """What a Redis hashes of a key: between the first ``{`` and the next ``}``."""
    return key.partition("{")[2].partition("}")[0]


def test_all_keys_of_a_topic_share_one_hash_tag() -> None:
    keys = Keys("sse")
    names = [*keys.topic("builds.42"), keys.once("builds.42", "k"), keys.channel("builds.42")]
    assert {tag(name) for name in names} == {"builds.42"}
    assert len({*names}) == 4
    assert all(name.startswith("sse:") for name in names)


def test_no_name_of_a_topic_breaks_out_of_its_tag_or_is_another_ones() -> None:
    names = ["a", "{a}", "a}", "{a", "%7Ba", "a%", "}", "a:meta", "topics"]
    keys = Keys("sse")
    assert len({tag(keys.topic(name)[0]) for name in names}) == len(names)
    made = [key for name in names for key in (*keys.topic(name), keys.channel(name))]
    assert len({*made, keys.names, keys.recent, keys.closed}) == 3 * len(names) + 3


def test_an_idempotency_key_may_be_any_text() -> None:
    keys = Keys("sse")
    odd = ["", "}", "\ud800", "x" * 10_000, "a b", "ä"]
    assert len({keys.once("t", key) for key in odd}) == len(odd)
    assert all(len(keys.once("t", key)) < 100 for key in odd)


def test_no_other_module_makes_names() -> None:
    own = Path(module.__file__)
    endings = {*re.findall(r":[a-z]+", "".join(re.findall(r'f"([^"]*)"', own.read_text())))}
    assert {":meta", ":log", ":once", ":notify", ":probe", ":topics"} <= endings
    others = [path for path in own.parent.glob("*.py") if path != own]
    assert len(others) > 5
    named = re.compile(f"[}}\"'](?:{'|'.join(endings)})\\b|\\.prefix\\b")
    assert {path.name: named.findall(path.read_text()) for path in others} == {path.name: [] for path in others}
