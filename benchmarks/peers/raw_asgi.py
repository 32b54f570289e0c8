"""The Python floor: an ASGI app that sends ready bytes, one send per event.

JOIN=1: everything queued goes out in one send (W1: up to 64 events a send).
"""

import asyncio
import os
from urllib.parse import parse_qs

from common import HEARTBEAT, Subscription, payload_json, publish, start_produce, topics

JOIN = os.environ.get("JOIN") == "1"
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")],
}
_encoded = {}
_beat = None


def encoded(n, size):
    if size not in _encoded or len(_encoded[size]) < n:
        _encoded[size] = [b"event: tick\ndata: " + payload_json(i, size).encode() + b"\n\n" for i in range(n)]
    if not JOIN:
        return _encoded[size][:n]
    return [b"".join(_encoded[size][i : min(i + 64, n)]) for i in range(0, n, 64)]


encoded(100_000, 0)


async def heartbeat():
    while True:
        await asyncio.sleep(HEARTBEAT)
        for topic in topics:
            publish(topic, b": ping\n\n")


async def wait_disconnect(receive, queue):
    while (await receive())["type"] != "http.disconnect":
        pass
    queue.put_nowait(None)


async def app(scope, receive, send):
    global _beat
    if scope["type"] != "http":
        return
    path = scope["path"]
    q = {k: int(v[0]) for k, v in parse_qs(scope["query_string"].decode()).items()}
    if path == "/stream":
        events = encoded(q.get("n", 1000), q.get("size", 0))
        await send(START)
        for e in events:
            await send({"type": "http.response.body", "body": e, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    _, verb, topic = path.split("/", 2)
    if verb == "subscribe":
        _beat = _beat or asyncio.create_task(heartbeat())
        await send(START)
        with Subscription(topic) as queue:
            watch = asyncio.create_task(wait_disconnect(receive, queue))
            message = b": hi\n\n"
            while message is not None:
                await send({"type": "http.response.body", "body": message, "more_body": True})
                message = await queue.get()
                if JOIN and message is not None and not queue.empty():
                    parts = [message]
                    while not queue.empty() and (m := queue.get_nowait()) is not None:
                        parts.append(m)
                    message = b"".join(parts)
            watch.cancel()
        return
    if verb == "publish":
        body = b""
        while True:
            m = await receive()
            body += m.get("body", b"")
            if not m.get("more_body"):
                break
        publish(topic, b"data: " + body + b"\n\n")
    elif verb == "produce":
        start_produce(lambda s: publish(topic, b"data: " + s.encode() + b"\n\n"), q["count"], q["rate"], q["size"])
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})
