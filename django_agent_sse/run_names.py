"""What a request to a route of runs calls things: which run it means, by which key, and the addresses and ids that follow."""

from __future__ import annotations

import re

from django.utils.encoding import escape_uri_path

from .eventlog.validation import filled
from .run_routes import RunRoute
from .runs.ids import belongs_to, client_key, is_run_id, new_id, owner_of, pointer_name
from .streams.context import Context

RUN, KEY = "sse_run", "sse_run_key"
"""What the URL captures for a route of runs itself."""
_BELOW = re.compile(rf"<\w+:(?:{RUN}|{KEY})>[/a-z]*$")


class RunNames:
    """The names in one request.

    Attributes:
        values: What the URL captures for the project.
        base: What the topics of the route's runs begin with.
    """

    def __init__(self, route: RunRoute, c: Context) -> None:
        self.route = route
        self.c = c
        self.values = {name: value for name, value in c.params.items() if name not in (RUN, KEY)}
        self.base = filled(route.topic, self.values)

    def asked_id(self) -> str | None:
        """Return the id of the run that the request names: in its address, its query or a header."""
        query = self.c.query
        candidates = (
            self.c.params.get(RUN) or self.c.params.get(KEY),
            query.get("run_id") or query.get("runId"),
            self.c.header("X-Run-Id"),
        )
        return next((str(one) for one in candidates if one and is_run_id(str(one))), None)

    def named_id(self) -> str | None:
        """Return the id of the run that this client calls by a name of its own, if it does."""
        key = self.client_key()
        return None if key is None else self.new_id(key)

    def client_key(self) -> str | None:
        """Return the idempotency key that stands for the client's own name of the run, if it gives one."""
        name = self.route.wire.run_name(self.c.request)
        return None if name is None else client_key(name)

    def new_id(self, key: str | None) -> str:
        """Return the id of a run that begins now; with a key, the same one each time."""
        return new_id(self.c, self._base_route(), self._place(), key)

    def belongs(self, id: str) -> bool:
        """Return whether a run of this id was started with what this address captures."""
        return belongs_to(id, self._place())

    def _place(self) -> str:
        return f"{sorted((name, str(value)) for name, value in self.values.items())}"

    async def key(self, named: object = None) -> str | None:
        """Return the name of the pointer to the present run; ``named``: what the address calls the key."""
        key, route = self.route.key, self._base_route()
        if isinstance(key, str):
            return filled(key, self.values)
        if named is not None and str(named) not in map(str, self.values.values()):
            return pointer_name(route, str(named)) if key is not None else None
        if key is not None:
            name = await key(self.c)
            if name is not None and not isinstance(name, str):
                raise TypeError(f"key= of the runs {self.route.name!r} returned {type(name).__name__}: return a str, or None")
            return None if name is None else pointer_name(route, name)
        if self.route.starts_on_get:
            return pointer_name(route, f"{self.query()}\n{owner_of(self.c)}\n{self.values}")
        return pointer_name(route, str(self.values)) if self.values else None

    def query(self) -> str:
        """Return the query, but for where a reader goes on."""
        query = self.c.query.copy()
        query.pop("last_event_id", None)
        return query.urlencode()

    def _base_route(self) -> str:
        """Return the pattern of the route's own address, which all of its addresses begin with."""
        return _BELOW.sub("", self.c.route).rstrip("/")

    def path_of(self, id: str) -> str:
        """Return the address of a run, escaped as in a header."""
        path = self.c.request.path
        named = self.c.params.get(RUN) or self.c.params.get(KEY)
        if named is not None:
            path = path[: path.rindex(f"/{named}")]
        return escape_uri_path(f"{path.rstrip('/')}/{id}/")
