"""``python -m tests.ledger.stamper TOPIC COUNT PAUSE``: publish now and then, and say when each event was committed."""

from __future__ import annotations

import json
import random
import sys
import time

import django


def publish_stamped(topic: str, count: int, pause: float) -> dict[str, int]:
    """Publish ``count`` events with about ``pause`` seconds in between; when each was committed, in nanoseconds of the clock."""
    from django_agent_sse import publish

    committed: dict[str, int] = {}
    for number in range(count):
        publish(topic, f"{topic} {number}")
        committed[str(number)] = time.monotonic_ns()
        time.sleep(pause * random.uniform(0.5, 1.5))
    return committed


if __name__ == "__main__":
    django.setup()
    print(json.dumps(publish_stamped(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
