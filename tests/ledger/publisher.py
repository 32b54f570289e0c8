"""``python -m tests.ledger.publisher NUMBER COUNT TOPIC…``: publish numbered events to topics at random, then say to which.

Now and then an append is repeated under its key, as a task does that does not know whether it got through. ``SECONDS`` in the
environment is how long all of it should take.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time

import django

REPEATED = 0.05
"""The share of appends that are made twice."""


def publish_all(number: int, count: int, topics: list[str], seconds: float) -> dict[str, list[str]]:
    """Publish ``count`` events, a few at a time, evenly over so many seconds; return what was acknowledged, by topic."""
    from django_agent_sse import publish_many

    random.seed(number)
    acknowledged: dict[str, list[str]] = {topic: [] for topic in topics}
    began, sent = time.monotonic(), 0
    while sent < count:
        batch = [f"{number}.{sent + more}" for more in range(min(random.choice((1, 1, 1, 2, 5)), count - sent))]
        topic, key = random.choice(topics), batch[0]
        first = publish_many(topic, [f"{topic} {name}" for name in batch], key=key)
        if random.random() < REPEATED:
            assert publish_many(topic, [f"{topic} {name}" for name in batch], key=key) == first
        acknowledged[topic] += batch
        sent += len(batch)
        time.sleep(max(0.0, began + sent / count * seconds - time.monotonic()))
    return acknowledged


if __name__ == "__main__":
    django.setup()
    _, own, how_many, *names = sys.argv
    print(json.dumps(publish_all(int(own), int(how_many), names, float(os.environ["SECONDS"]))))
