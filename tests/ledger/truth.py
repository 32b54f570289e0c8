"""``python -m tests.ledger.truth TOPIC…``: close the topics, and print what the log has of each."""

from __future__ import annotations

import json
import sys

import django


def close_and_read(topics: list[str]) -> dict[str, list[str]]:
    """The data of every event of each topic, in order."""
    from django_agent_sse import close_topic
    from django_agent_sse.eventlog.backend import event_log

    log = event_log()
    found: dict[str, list[str]] = {}
    for topic in topics:
        close_topic(topic)
        found[topic], after = [], 0
        while records := log.read_after(topic, after).records:
            assert records[0].offset == after + 1
            found[topic] += [record.event.data.partition(" ")[2] for record in records]
            after = records[-1].offset
    return found


if __name__ == "__main__":
    django.setup()
    print(json.dumps(close_and_read(sys.argv[1:])))
