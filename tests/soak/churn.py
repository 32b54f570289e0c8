"""Clients that come and go in every way: they end, are cut, refused or signed out, resume, look at logs and the monitor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import traceback
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from tests.live.client import RST_ON_CLOSE, _Body
from tests.live.parser import Parser, Received

T = TypeVar("T")
PATIENCE = 90.0
ADDRESS_LIMIT = 8
GREEDY = ADDRESS_LIMIT + 2
TOPICS = 10
MOST_AT_ONCE = 400
PAUSE = 0.005
EACH = 5
"""As many as a kind has ways, which it takes in turn."""
MONITOR = "admin/agent_sse_monitor/livestreams/"


class Wrong(Exception):
    """What a client got is not what it should have got."""


def expect(condition: bool, *about: object) -> None:
    """Raise where it is not so."""
    if not condition:
        raise Wrong(about)


@dataclass(eq=False)
class Answer:
    """One response, as far as it was read."""

    reader: asyncio.StreamReader
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    events: list[Received] = field(default_factory=list)
    raw: bytes = b""
    complete: bool = False

    async def head(self) -> Answer:
        """Read the status and the headers."""
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._body = _Body(self.headers)
        self._parser = Parser()
        self._streams = self.headers.get("content-type", "").startswith("text/event-stream")
        return self

    async def more(self) -> bool:
        """Read what comes next; false at the end."""
        data = b"" if self._body.complete else await self.reader.read(65_536)
        payload = self._body.feed(data) if data else b""
        if self._streams:
            self.events += self._parser.feed(payload)
        else:
            self.raw += payload
        self.complete = self._body.complete
        return bool(data)

    async def until(self, count: int) -> list[Received]:
        """Read until there are so many events, or the end."""
        while len(self.events) < count and await self.more():
            pass
        return self.events

    async def rest(self) -> list[Received]:
        """Read to the end."""
        while await self.more():
            pass
        return self.events


class Churn:
    """Clients of one server.

    Attributes:
        connects: How many connections there were, by kind of client.
        addresses: From how many addresses the clients come, in turn.
        wrong: What went wrong, by kind.
    """

    def __init__(self, port: int, sessions: Mapping[str, str], boss: str, *, addresses: int, chance: int = 1) -> None:
        self.port = port
        self.sessions = [*sessions.values()]
        self.boss = boss
        self.random = random.Random(chance)
        self.connects: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.addresses = addresses
        self._address = 0
        # So many that, in short, none is used twice: the server may not have given the places back yet.
        self._greedy = deque(f"127.2.{number // 250}.{1 + number % 250}" for number in range(max(50, addresses // 20)))
        self._turns: Counter[str] = Counter()
        self._kinds: dict[Callable[[], Awaitable[None]], int] = {
            self.whole: 24,
            self.leaves: 30,
            self.resumes: 8,
            self.cut: 20,
            self.refused: 14,
            self.greedy: 2,
            self.log: 2,
            self.member: 5,
            self.signs_out: 1,
            self.runs: 1,
        }

    @property
    def total(self) -> int:
        """Connections so far."""
        return self.connects.total()

    async def go_on(
        self, connects: int, seconds: float, rate: float, kinds: Mapping[Callable[[], Awaitable[None]], int] | None = None
    ) -> None:
        """Let clients come, and wait until all of them have gone: each kind some times, then as it comes.

        Args:
            connects: So many connections at least.
            seconds: For so long at least.
            rate: Connections a second, about.
            kinds: Which, with how often each; all where not given.
        """
        weights = kinds or self._kinds
        began, before, tasks = time.monotonic(), self.total, set[asyncio.Task[None]]()
        first = [*weights] * EACH
        while first or self.total - before < connects or time.monotonic() < began + seconds:
            if self.total - before < rate * (time.monotonic() - began) and len(tasks) < MOST_AT_ONCE:
                kind = first.pop() if first else self.random.choices([*weights], [*weights.values()])[0]
                task = asyncio.create_task(self._one(kind))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                await asyncio.sleep(0)
            else:
                await asyncio.sleep(PAUSE)
        while tasks:
            await asyncio.wait(tasks)

    async def _one(self, kind: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await kind()
        except Exception as error:
            where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == __file__]
            self.wrong.append(f"{getattr(kind, '__name__', kind)}: {error!r}, lines {where}")

    @contextlib.asynccontextmanager
    async def asks(
        self, target: str, *, kind: str, method: str = "GET", local: str = "", part: int | None = None, **headers: str
    ) -> AsyncIterator[Answer]:
        """Send a request, or its first bytes. Afterwards the client goes by a FIN or an RST, as it comes."""
        self.connects[kind] += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(local or self._next_address(), 0))
        try:
            sent = {
                "host": "localhost",
                "accept": "text/event-stream",
                "content-length": "0" if method == "POST" else "",
                **headers,
            }
            lines = [f"{name.replace('_', '-')}: {value}" for name, value in sent.items() if value]
            request = "\r\n".join([f"{method} /{target} HTTP/1.1", *lines, "", ""]).encode()
            writer.write(request[:part])
            yield Answer(reader)
        finally:
            if self.random.random() < 0.5:
                writer.get_extra_info("socket").setsockopt(1, 13, RST_ON_CLOSE)
            writer.close()

    def _next_address(self) -> str:
        self._address = (self._address + 1) % self.addresses
        return f"127.1.{self._address // 250}.{1 + self._address % 250}"

    async def _stays(self, seconds: float = 2.0) -> None:
        await asyncio.sleep(self.random.uniform(0, seconds))

    def _in_turn(self, kind: str, ways: Sequence[T]) -> T:
        self._turns[kind] += 1
        return ways[self._turns[kind] % len(ways)]

    # The kinds

    async def whole(self) -> None:
        async with self.asks("client/numbers/?to=3", kind="read to the end") as answer:
            events = await (await answer.head()).rest()
            expect([event.name for event in events] == ["number"] * 3 + ["sse.end"], events)
            expect(answer.complete, "not complete")

    async def leaves(self) -> None:
        async with self.asks(
            self._in_turn("leaves", ["life/idle/", "life/waits/", "life/generates/"]), kind="left open"
        ) as answer:
            expect(bool(await (await answer.head()).until(1)), "no event")
            await self._stays()

    async def resumes(self) -> None:
        """Comes back with its last id, once or more: each event once and in order."""
        target = f"topics/follow/soak-{self.random.randrange(TOPICS)}/"
        got: list[int] = []
        last, missed, told = "", 0, list[object]()
        for _ in range(self.random.randint(2, 4)):
            async with self.asks(
                target, kind="comes back with its last id", **({"last_event_id": last} if last else {})
            ) as answer:
                await answer.head()
                expect(answer.status == 200, answer.status)
                events = await answer.until(self.random.randint(1, 5))
                while all(event.name == "sse.gap" for event in events) and await answer.more():
                    pass  # else somebody might leave after a gap each time, and have had no event
            for event in events:
                if event.name == "sse.gap":  # it has read the oldest, which are trimmed meanwhile
                    missed += int(json.loads(event.data)["missed"])
                else:
                    got.append(int(event.data) - missed)
                last = event.id
            told.append((answer.status, answer.complete, [event.name for event in events]))
        expect(bool(got), "no event", target, told)
        expect(got == [*range(got[0], got[0] + len(got))], got)

    async def cut(self) -> None:
        """Goes at any byte of the request, or of the response."""
        target = self._in_turn(
            "cut",
            [
                "client/numbers/?to=30",
                "life/busy/",
                "life/silent/",
                "topics/follow/soak-0/",
                "soak/log/soak/",
                "soak/log/soak/raw/",
            ],
        )
        in_request = self.random.random() < 0.3
        async with self.asks(target, kind="cut at any byte", part=self.random.randrange(90) if in_request else None) as answer:
            if in_request or target == "life/silent/":
                return
            with contextlib.suppress(asyncio.IncompleteReadError):
                await answer.reader.readexactly(self.random.randrange(1, 1_500 if "silent" not in target else 2))

    async def refused(self) -> None:
        target, method, headers, status = self._in_turn(
            "refused",
            [
                ("client/forbidden/", "GET", {}, 403),
                ("life/idle/", "POST", {}, 403),
                ("topics/follow/no!topic/", "GET", {}, 404),
                ("access/signed-in/", "GET", {}, 401),
                (
                    "life/idle/",
                    "GET",
                    {"origin": "https://elsewhere.example", "sec_fetch_site": "cross-site", "cookie": "a=b"},
                    403,
                ),
            ],
        )
        async with self.asks(target, kind="refused", method=method, **headers) as answer:
            await (await answer.head()).rest()
            expect(answer.status == status, target, method, answer.status, answer.raw[:200])

    async def greedy(self) -> None:
        """One address asks for more than it may have."""
        if not self._greedy:
            return
        local = self._greedy.popleft()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._greedy.append, local)
            answers = [
                await stack.enter_async_context(self.asks("life/idle/", kind="over the limit of an address", local=local))
                for _ in range(GREEDY)
            ]
            names = Counter([(await (await answer.head()).until(1))[0].name for answer in answers])
            expect(names == {"message": ADDRESS_LIMIT, "sse.overloaded": GREEDY - ADDRESS_LIMIT}, names)

    async def log(self) -> None:
        """A log viewer: parts, a search, the levels, the text; and then it follows."""
        path = "soak/log/soak/"
        part = self._in_turn("log", ["?count=50", "?grep=error&count=20", "?levels=1&count=5", "?level=error&context=2"])
        async with self.asks(f"{path}range/{part}", kind="log viewer", accept="*/*") as answer:
            await (await answer.head()).rest()
            expect(answer.status == 200, part, answer.status, answer.raw[:200])
            json.loads(answer.raw)
        async with self.asks(f"{path}raw/?follow=0", kind="log viewer", accept="*/*") as answer:
            await (await answer.head()).rest()
            expect(answer.status == 200 and answer.complete, answer.status)
        async with self.asks(path, kind="log viewer") as answer:
            expect(len(await (await answer.head()).until(5)) >= 5, "no lines")

    async def member(self) -> None:
        cookie = f"sessionid={self.random.choice(self.sessions)}"
        async with self.asks("access/signed-in/", kind="signed in", cookie=cookie) as answer:
            expect(bool(await (await answer.head()).until(1)), answer.status)
            await self._stays()

    async def signs_out(self) -> None:
        """Its stream ends with its session."""
        name = f"user-{self.random.randrange(500):03}"
        async with self.asks(f"client/in/{name}/", kind="signed out", accept="*/*") as answer:
            await (await answer.head()).rest()
            cookie = answer.headers["set-cookie"].partition(";")[0]
            expect("sessionid" in cookie, answer.headers)
        async with self.asks("access/signed-in/", kind="signed out", cookie=cookie) as stream:
            expect(bool(await (await stream.head()).until(1)), stream.status)
            async with self.asks("client/out/", kind="signed out", accept="*/*", cookie=cookie) as answer:
                await (await answer.head()).rest()
            events = await stream.rest()
            expect((events[-1].name, json.loads(events[-1].data)["reason"]) == ("sse.end", "revoked"), events)

    async def runs(self) -> None:
        target = f"runs/count/{uuid.uuid4().hex}/?most=5"
        async with self.asks(target, kind="a run", method="POST") as answer:
            events = await (await answer.head()).rest()
            expect(answer.status == 200 and len(events) >= 6, answer.status, events)

    async def leaks(self) -> None:
        async with self.asks("soak/leaks/", kind="leaks") as answer:
            await (await answer.head()).rest()

    async def monitor(self, seconds: float) -> None:
        """Somebody who looks at the monitor until they are cancelled, and loads the page anew now and then."""
        cookie = f"sessionid={self.boss}"
        while True:
            for page in ("", "export/?format=csv"):
                async with self.asks(f"{MONITOR}{page}", kind="monitor", accept="*/*", cookie=cookie) as answer:
                    await (await answer.head()).rest()
                    if answer.status != 200:
                        self.wrong.append(f"monitor: {page} {answer.status} {answer.raw[:300]!r}")
            async with self.asks(f"{MONITOR}events/", kind="monitor", cookie=cookie) as answer:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await (await answer.head()).rest()
                        self.wrong.append(f"monitor: it ended: {answer.status} {answer.events[-1:]}")


@contextlib.asynccontextmanager
async def watched(churn: Churn, seconds: float) -> AsyncIterator[None]:
    """The monitor is open meanwhile."""
    task = asyncio.create_task(churn.monitor(seconds))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def people() -> str:
    """What asks for people with sessions, the first of whom may see the monitor."""
    names: dict[str, dict[str, bool]] = {f"soak-{number}": {} for number in range(50)}
    return json.dumps({"boss": {"is_staff": True, "is_superuser": True}, **names})
