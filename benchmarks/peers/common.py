"""What every Python peer shares: the W1 payload, fan-out queues, the in-process producer."""

import asyncio
import json
import time

HEARTBEAT = 15.0
topics: dict[str, set] = {}


def payload(i, size=0):
    """{"n": i}, padded to about `size` bytes."""
    if size:
        return {"n": i, "p": "x" * max(0, size - 18 - len(str(i)))}
    return {"n": i}


def payload_json(i, size=0):
    return json.dumps(payload(i, size))


class Subscription:
    """A queue registered under a topic for as long as the `with` block lasts."""

    def __init__(self, topic):
        self.topic = topic
        self.queue = asyncio.Queue()

    def __enter__(self):
        topics.setdefault(self.topic, set()).add(self.queue)
        return self.queue

    def __exit__(self, *exc):
        topics[self.topic].discard(self.queue)


def publish(topic, message):
    for q in topics.get(topic, ()):
        q.put_nowait(message)


async def produce(publish_one, count, rate, size):
    """Publish `count` stamped messages at `rate` a second, in ticks of 5 ms.

    The stamp is the moment the message was due, so a late server shows as latency.
    """
    t0 = time.monotonic_ns()
    for i in range(count):
        due = t0 + int(i / rate * 1e9)
        while (ahead := due - time.monotonic_ns()) > 0:
            await asyncio.sleep(max(0.005, ahead / 1e9))
        text = f"seq={i} t={due} "
        r = publish_one(text + "x" * max(0, size - len(text)))
        if r is not None:
            await r


_background = set()


def start_produce(publish_one, count, rate, size):
    task = asyncio.get_running_loop().create_task(produce(publish_one, count, rate, size))
    _background.add(task)
    task.add_done_callback(_background.discard)
