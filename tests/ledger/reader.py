"""Clients that keep a ledger: each follows its topics over HTTP, comes back with its last id when it is cut, and notes all."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from urllib.parse import urlencode, urlsplit

import h11

from django_agent_sse.wire import Decoder

PAUSE = 0.1
"""Seconds before a client comes back, more or less."""
SILENCE = 30.0
"""Seconds without a byte after which something is wrong: heartbeats come more often."""


class Reader:
    """One client.

    Attributes:
        got: The data of the events, by topic, in the order of their arrival.
        gaps: What it was told that it lost.
        connects: Answers of 200.
        failures: Attempts that came to nothing: refused, reset, or answered otherwise.
        ended: The stream's last event came.
    """

    def __init__(self, url: str, topics: list[str]) -> None:
        self.topics = topics
        where = urlsplit(url)
        self._host, self._port = where.hostname, where.port
        self._target = f"{where.path}?{urlencode([('topic', topic) for topic in topics])}"
        self._last_id: str | None = None
        self.got: dict[str, list[str]] = defaultdict(list)
        self.gaps: list[str] = []
        self.connects = self.failures = 0
        self.opened = asyncio.Event()
        self.ended = False

    async def follow(self) -> None:
        """Follow until the end, however often that takes a new connection."""
        while not self.ended:
            try:
                await self._connection()
            except (OSError, h11.RemoteProtocolError, asyncio.IncompleteReadError):
                self.failures += not self.opened.is_set()
            await asyncio.sleep(PAUSE * random.uniform(0.5, 1.5))

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            http = h11.Connection(h11.CLIENT)
            headers = [("Host", "testserver"), ("Accept", "text/event-stream"), ("Connection", "close")]
            headers += [("Last-Event-ID", self._last_id)] if self._last_id is not None else []
            writer.write(http.send(h11.Request(method="GET", target=self._target, headers=headers)) or b"")
            writer.write(http.send(h11.EndOfMessage()) or b"")
            decoder = Decoder()
            while not self.ended:
                found = http.next_event()
                if found is h11.NEED_DATA:
                    http.receive_data(await asyncio.wait_for(reader.read(262_144), SILENCE))
                elif isinstance(found, h11.Response):
                    if found.status_code != 200:
                        self.failures += 1
                        return
                    self.connects += 1
                    self.opened.set()
                elif isinstance(found, h11.Data):
                    self._note(decoder, bytes(found.data))
                elif isinstance(found, (h11.EndOfMessage, h11.ConnectionClosed)):
                    return
        finally:
            writer.close()

    def _note(self, decoder: Decoder, data: bytes) -> None:
        for event in decoder.feed(data):
            if event.id is not None:
                self._last_id = event.id
            if event.event == "sse.gap":
                self.gaps.append(event.data)
            elif event.event == "sse.end":
                self.ended = True
            elif event.event is None:
                self.note(*event.data.split(" ", 1))

    def note(self, topic: str, name: str) -> None:
        """One event has come."""
        self.got[topic].append(name)
