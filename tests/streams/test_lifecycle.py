"""The life of a stream without any event loop: every order of two and three events, and what must be done after each.

Effects are written as words (``shown``). What is expected does not come from the code: pairs have a table, and triples have
``RULES``, which says of each effect when it must come, by what has happened before and by nothing else.
"""

from __future__ import annotations

import ast
import itertools
import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from django_agent_sse.streams import endings, lifecycle, messages
from django_agent_sse.streams.endings import ENDINGS, Ending
from django_agent_sse.streams.lifecycle import Action, Deadline, Effect, Finish, Lifecycle, Outcome, WatchDeparture

INPUTS: dict[str, Callable[[Lifecycle], tuple[Effect, ...]]] = {
    "started": lambda life: life.started(),
    "committed": lambda life: life.committed(),
    "opened": lambda life: life.opened(),
    "wrote": lambda life: life.wrote(),
    "on_abort": lambda life: life.abort_callback_added(),
    "drained": lambda life: life.drained(),
    "deadline": lambda life: life.deadline(),
    "client_gone": lambda life: life.client_gone(),
    "send_timed_out": lambda life: life.send_timed_out(),
    "max_duration": lambda life: life.ended(Ending.MAX_DURATION),
    "shutdown": lambda life: life.ended(Ending.SHUTDOWN),
    "kicked": lambda life: life.ended(Ending.KICKED),
    "kicked for a while": lambda life: life.ended(Ending.KICKED, retry=60_000),
    "revoked": lambda life: life.ended(Ending.REVOKED),
    "close()": lambda life: life.ended(Ending.COMPLETED),
    "returned": lambda life: life.handler_done(Outcome.RETURNED),
    "followed to the end": lambda life: life.handler_done(Outcome.RETURNED, followed=True),
    "answered": lambda life: life.handler_done(Outcome.ANSWERED),
    "raised": lambda life: life.handler_done(Outcome.RAISED),
    "raised StreamClosed": lambda life: life.handler_done(Outcome.WRITE_REFUSED),
    "cancelled": lambda life: life.handler_done(Outcome.CANCELLED),
    "interrupted": lambda life: life.handler_done(Outcome.INTERRUPTED),
    "error_reported": lambda life: life.error_reported(),
}
OPEN = ("started", "committed", "opened")
"""What has happened to a stream that is open; the other beginning is the very first moment."""

WORDS = {
    Action.RUN_HANDLER: "run",
    Action.BEGIN_RESPONSE: "begin",
    Action.TELL_OPENED: "tell",
    Action.REPORT_ERROR: "report",
    Action.LOG_LATE_ERROR: "log",
    Action.DROP_ANSWER: "drop-answer",
    Action.RAISE_ERROR: "raise",
    Action.ANSWER: "answer",
    Action.LIMIT_CLIENT: "limit",
    Action.RUN_ABORT_CALLBACKS: "abort",
    Action.CANCEL_HANDLER: "cancel",
    Action.ABANDON_HANDLER: "abandon",
    Action.SET_DRAIN_DEADLINE: "drain-deadline",
    Action.DISCARD_UNSENT: "discard",
    Action.BREAK_SEND: "break-send",
    Action.BREAK_OFF: "break-off",
    Action.REFUSE_WRITE: "refuse-write",
    Action.DROP_WRITE: "drop-write",
    Action.KEEP_CALLBACK: "keep-callback",
    Action.RUN_CALLBACK: "run-callback",
    Action.RELEASE: "release",
    Action.CLEAR_DEADLINE: "clear",
    Action.CONCLUDE: "conclude",
}


def shown(effect: Effect) -> str:
    match effect:
        case Action():
            return WORDS[effect]
        case Deadline():
            return {Deadline.CLOSE_GRACE: "grace", Deadline.CLEANUP: "cleanup"}[effect]
        case WatchDeparture():
            return "departure-unfinished" if effect.unfinished else "departure"
        case Finish():
            retry = "later" if effect.retry is not None else None
            about = [word for word in (effect.last_event, "for-good" if effect.final else None, retry) if word]
            return f"finish({','.join(about)})"


class Mode(NamedTuple):
    """A kind of stream: whether its client takes control events, whether the handler goes on without it, final errors."""

    control: bool
    continues: bool
    final: bool = False

    def life(self) -> Lifecycle:
        on_disconnect = "continue" if self.continues else "cancel"
        return Lifecycle(control=self.control, on_disconnect=on_disconnect, final_on_error=self.final)


PLAIN = Mode(control=True, continues=False)
MODES = [PLAIN, Mode(control=False, continues=True), Mode(control=True, continues=True, final=True)]


def lived(mode: Mode, inputs: tuple[str, ...]) -> list[str]:
    """What was to be done after each of the inputs, as words."""
    life = mode.life()
    return [" ".join(map(shown, INPUTS[name](life))) for name in inputs]


# One and two events of an open stream, written out

END = "finish(sse.end,for-good)"
ALONE = {
    "on_abort": "keep-callback",
    "client_gone": "finish() abort cancel cleanup discard",
    "send_timed_out": "finish() abort cancel cleanup discard break-send",
    "max_duration": "finish() abort cancel cleanup",
    "shutdown": "limit finish() abort cancel cleanup drain-deadline",
    "kicked": f"limit {END} abort cancel cleanup drain-deadline",
    "kicked for a while": "limit finish(sse.end,later) abort cancel cleanup drain-deadline",
    "revoked": f"limit {END} abort cancel cleanup drain-deadline",
    "close()": f"{END} grace",
    "returned": f"{END} release",
    "followed to the end": f"{END} release",
    "answered": f"drop-answer {END} release",
    "raised": "report",
    "raised StreamClosed": "report",
    "cancelled": "limit finish() abort drain-deadline release",
    "interrupted": "finish(sse.error) release",
}
"""The first event of an open stream: all else asks for nothing."""

_TIDIED = {
    "returned": "release clear",
    "followed to the end": "release clear",
    "answered": "drop-answer release clear",
    "raised": "log release clear",
    "raised StreamClosed": "release clear",
    "cancelled": "release clear",
    "interrupted": "release clear",
}
AFTER = {
    ("started", "committed", "opened", "wrote", "on_abort", "drained", "deadline", "error_reported"): ALONE,
    ("send_timed_out", "max_duration", "shutdown", "kicked", "kicked for a while", "revoked"): {
        "wrote": "refuse-write",
        "on_abort": "run-callback",
        "client_gone": "discard departure",
        "send_timed_out": "break-send",
        "deadline": "abandon",
        **_TIDIED,
    },
    ("client_gone",): {
        "wrote": "refuse-write",
        "on_abort": "run-callback",
        "deadline": "abandon",
        **{name: f"{words} conclude" for name, words in _TIDIED.items()},
    },
    ("close()",): {
        "wrote": "refuse-write",
        "client_gone": "discard departure",
        "send_timed_out": "break-send",
        "shutdown": "cancel cleanup",
        "deadline": "cancel cleanup",
        **_TIDIED,
    },
    ("returned", "followed to the end", "answered", "interrupted"): {
        "wrote": "refuse-write",
        "client_gone": "discard departure conclude",
        "send_timed_out": "break-send",
    },
    ("cancelled",): {
        "wrote": "refuse-write",
        "on_abort": "run-callback",
        "client_gone": "discard departure conclude",
        "send_timed_out": "break-send",
    },
    ("raised", "raised StreamClosed"): {
        **{name: words for name, words in ALONE.items() if name not in _TIDIED},
        "error_reported": "finish(sse.error) release",
    },
}
"""The second event, after each first one."""


def test_one_event_of_an_open_stream() -> None:
    assert {name: lived(PLAIN, (*OPEN, name))[-1] for name in INPUTS} == dict.fromkeys(INPUTS, "") | ALONE


def test_two_events_of_an_open_stream() -> None:
    expected = {first: dict.fromkeys(INPUTS, "") | row for firsts, row in AFTER.items() for first in firsts}
    assert expected.keys() == INPUTS.keys()
    assert {first: {second: lived(PLAIN, (*OPEN, first, second))[-1] for second in INPUTS} for first in INPUTS} == expected


# The rules for any order: what has happened before decides, and nothing else

Past = tuple[str, ...]
DONE = {"returned", "followed to the end", "answered", "raised", "raised StreamClosed", "cancelled", "interrupted"}
FAILED = {"raised", "raised StreamClosed"}
REQUESTED = {"shutdown", "kicked", "kicked for a while", "revoked", "cancelled"}
ASKED = {
    "client_gone": "client_disconnect",
    "send_timed_out": "slow_client",
    "max_duration": "max_duration",
    "shutdown": "shutdown",
    "kicked": "kicked",
    "kicked for a while": "kicked",
    "revoked": "revoked",
    "close()": "completed",
    "returned": "completed",
    "answered": "completed",
    "followed to the end": "topic_closed",
    "cancelled": "shutdown",
    "interrupted": "handler_error",
    "error_reported": "handler_error",
    "raised": "handler_error",
    "raised StreamClosed": "handler_error",
}
"""The ending that an event asks for."""
ABORTS = {"client_disconnect", "slow_client", "max_duration", "shutdown", "revoked", "kicked"}
WHOLE = {"completed", "topic_closed"}


class Story:
    """What can be said of a stream of one mode after some events."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        for name in ("ending", "counts", "pending", "cancelled"):
            setattr(self, name, cache(getattr(self, name)))

    def ending(self, past: Past) -> str | None:
        """The first event that ends a stream says how."""
        return next((ASKED[now] for before, now in steps(past) if self.ends(before, now)), None)

    def ends(self, before: Past, now: str) -> bool:
        """Whether this event decides the ending."""
        if now not in ASKED or self.ending(before) is not None:
            return False
        if now in DONE:
            return self.counts(before, now) and not self.must_be_reported(before, now)
        return now != "error_reported" or self.reporting(before)

    def counts(self, before: Past, now: str) -> bool:
        """A handler is over once."""
        return not any(event in DONE for event in before)

    def must_be_reported(self, before: Past, now: str) -> bool:
        """An error of an open response is reported, and the handler is over after that."""
        return now in FAILED and self.counts(before, now) and self.ending(before) is None and "committed" in before

    def reporting(self, past: Past) -> bool:
        asked = [index for index, (before, now) in enumerate(steps(past)) if self.must_be_reported(before, now)]
        return bool(asked) and "error_reported" not in past[asked[0] :]

    def over(self, past: Past) -> bool:
        """Whether the handler is over."""
        return any(event in DONE for event in past) and not self.reporting(past)

    def becomes_over(self, before: Past, now: str) -> bool:
        return not self.over(before) and self.over((*before, now))

    def never_began(self, before: Past, now: str) -> bool:
        """The handler was over before the response could begin: Django answers."""
        unused = self.ending(before) is None and "committed" not in before and self.counts(before, now)
        return unused and now in {*FAILED, "answered"}

    def gone(self, past: Past) -> bool:
        return "client_gone" in past or any(self.never_began(before, now) for before, now in steps(past))

    def all_over(self, past: Past) -> bool:
        return self.over(past) and self.gone(past)

    def open(self, past: Past) -> bool:
        return any(now == "opened" and not self.gone(before) for before, now in steps(past))

    def detached(self, past: Past) -> bool:
        return self.mode.continues and self.ending(past) == "client_disconnect"

    def cancels(self, before: Past, now: str) -> bool:
        """Whether the handler must end now: an abort, a shutdown after any end, or the end of the grace."""
        if self.over((*before, now)) or self.cancelled(before):
            return False
        aborted = self.ends(before, now) and ASKED[now] in ABORTS and not self.detached((*before, now))
        told = now == "shutdown" and self.ending(before) is not None
        return aborted or told or (now == "deadline" and self.pending(before) == "grace")

    def cancelled(self, past: Past) -> bool:
        return any(self.cancels(before, now) for before, now in steps(past))

    def graced(self, before: Past, now: str) -> bool:
        """Whether the handler's code may go on for a while."""
        return self.ends(before, now) and ASKED[now] not in ABORTS and not self.over((*before, now))

    def pending(self, past: Past) -> str | None:
        """The deadline that is set."""
        if not past:
            return None
        *rest, now = past
        before = tuple(rest)
        if self.over(past) or (now == "deadline" and self.pending(before) == "cleanup"):
            return None
        if self.cancels(before, now):
            return "cleanup"
        if self.graced(before, now):
            return "grace"
        return self.pending(before)

    def finish(self, before: Past, now: str) -> str:
        """The last event, as words."""
        ending, control, final = ASKED[now], self.mode.control, self.mode.final
        if control and ending == "handler_error":
            return "finish(sse.error,for-good)" if final else "finish(sse.error)"
        if control and now == "kicked for a while":
            return "finish(sse.end,later)"
        return END if control and ending in {*WHOLE, "revoked", "kicked"} else "finish()"


def steps(past: Past) -> Iterator[tuple[Past, str]]:
    return ((past[:index], now) for index, now in enumerate(past))


Rule = Callable[[Story, Past, str], object]
RULES: dict[str, Rule] = {
    "run": lambda s, p, now: now == "started" and not {*p} & {"started", *DONE} and s.ending(p) is None,
    "begin": lambda s, p, now: now == "committed" and "committed" not in p and s.ending(p) is None,
    "tell": lambda s, p, now: now == "opened" and not s.open(p) and not s.gone(p),
    "report": lambda s, p, now: s.must_be_reported(p, now),
    "log": lambda s, p, now: now == "raised" and s.counts(p, now) and s.ending(p),
    "drop-answer": lambda s, p, now: now == "answered" and s.counts(p, now) and not s.never_began(p, now),
    "raise": lambda s, p, now: now in FAILED and s.never_began(p, now),
    "answer": lambda s, p, now: now == "answered" and s.never_began(p, now),
    "limit": lambda s, p, now: s.ends(p, now) and now in REQUESTED,
    "finish": lambda s, p, now: s.ends(p, now) and not s.never_began(p, now),
    "abort": lambda s, p, now: s.ends(p, now) and ASKED[now] in ABORTS,
    "cancel": lambda s, p, now: s.cancels(p, now) and ("started" in p or s.reporting(p)),
    "abandon": lambda s, p, now: now == "deadline" and s.pending(p) == "cleanup",
    "cleanup": lambda s, p, now: s.cancels(p, now),
    "drain-deadline": lambda s, p, now: s.ends(p, now) and now in REQUESTED,
    "grace": lambda s, p, now: s.graced(p, now),
    "discard": lambda s, p, now: (now == "client_gone" and not s.gone(p)) or (now == "send_timed_out" and s.ends(p, now)),
    "break-send": lambda s, p, now: now == "send_timed_out" and not s.gone(p),
    "break-off": lambda s, p, now: now == "drained" and not s.mode.control and s.ending(p) not in {None, *WHOLE},
    "refuse-write": lambda s, p, now: now == "wrote" and s.ending(p) and not s.detached(p),
    "drop-write": lambda s, p, now: now == "wrote" and s.detached(p),
    "keep-callback": lambda s, p, now: now == "on_abort" and s.ending(p) is None,
    "run-callback": lambda s, p, now: now == "on_abort" and s.ending(p) in ABORTS,
    "departure": lambda s, p, now: now == "client_gone" and not s.gone(p) and s.open(p) and s.ending(p),
    "release": lambda s, p, now: s.becomes_over(p, now),
    "clear": lambda s, p, now: s.becomes_over(p, now) and s.pending(p),
    "conclude": lambda s, p, now: s.all_over((*p, now)) and not s.all_over(p),
}
"""When each effect comes, in the order in which effects come."""


def expected(story: Story, past: Past, now: str) -> str:
    words = []
    for word, rule in RULES.items():
        if rule(story, past, now):
            if word == "finish":
                word = story.finish(past, now)
            if word == "departure" and not story.mode.control and story.ending(past) not in WHOLE:
                word = "departure-unfinished"
            words.append(word)
    return " ".join(words)


ALL = [(mode, beginning) for mode in MODES for beginning in ((), OPEN)]


@pytest.mark.parametrize(("mode", "beginning"), ALL, ids=str)
def test_every_order_of_three_events_has_its_effects(mode: Mode, beginning: Past) -> None:
    """The first two of three are every order of two."""
    story = Story(mode)
    predict = cache(lambda past, now: expected(story, past, now))
    wrong = []
    for events in itertools.product(INPUTS, repeat=3):
        happened = lived(mode, beginning + events)[len(beginning) :]
        rules = [predict(beginning + events[:index], events[index]) for index in range(3)]
        if happened != rules:
            wrong.append((events, happened, rules))
    assert wrong[:5] == []


def test_longer_lives_have_their_effects() -> None:
    """Whatever three events cannot show, such as a handler that is abandoned and over at last."""
    dice = random.Random(18)
    for mode in MODES:
        story = Story(mode)
        for _ in range(300):
            events = tuple(dice.choices([*INPUTS], k=9))
            assert lived(mode, events) == [expected(story, events[:index], now) for index, now in enumerate(events)], events


# What holds in every life, whatever the rules


ONCE = {"run", "begin", "tell", "abort", "cancel", "abandon", "report", "release", "clear", "conclude", "grace", "cleanup"}


def broken_promises(mode: Mode, events: Past) -> Iterator[str]:
    """What a list of effects says that no life may."""
    life = mode.life()
    words: list[str] = []
    endings_seen: list[Ending] = []
    for now in events:
        new = [shown(effect) for effect in INPUTS[now](life)]
        if words and "conclude" in words and set(new) - {"refuse-write", "drop-write", "run-callback", "break-off"}:
            yield f"{new} after all was over"
        if {"begin", "run"} & {*new} and any(word.startswith(("finish", "raise", "answer")) for word in words):
            yield "something begins after the end"
        words += new
        if life.ending is not None:
            endings_seen.append(life.ending)
    if len({*endings_seen}) > 1:
        yield "the first ending does not stay"
    kinds = [word.partition("(")[0] for word in words]
    ends = kinds.count("finish") + kinds.count("raise") + kinds.count("answer")
    if ends != (life.ending is not None):
        yield f"{ends} ends"
    for once in (
        "run",
        "begin",
        "tell",
        "abort",
        "cancel",
        "abandon",
        "report",
        "release",
        "clear",
        "conclude",
        "grace",
        "cleanup",
    ):
        if kinds.count(once) > 1:
            yield f"{once} twice"
    if ("abort" in kinds) != (str(life.ending) in ABORTS):
        yield "on_abort runs for other endings than those of the table"
    if not mode.control and any("sse." in word for word in words):
        yield "a control event for a client that takes none"
    if ("refuse-write" in kinds or "drop-write" in kinds) and life.ending is None:
        yield "a write is refused before the end"
    ended_by_close = events[events.index("close()") :] if "close()" in events else ()
    if "wrote" in ended_by_close and not {"refuse-write", "drop-write"} & {*kinds}:
        yield "something is written after the end"
    if "cancel" in kinds and "cleanup" not in kinds:
        yield "a handler is cancelled and nobody looks after it"
    if "conclude" in kinds and not ("release" in kinds and ({*events} & {"client_gone"} or {"raise", "answer"} & {*kinds})):
        yield "all is over before handler and transport are"


@pytest.mark.parametrize(("mode", "beginning"), ALL, ids=str)
def test_no_order_of_three_events_breaks_a_promise(mode: Mode, beginning: Past) -> None:
    broken = {
        events: promises
        for events in itertools.product(INPUTS, repeat=3)
        if (promises := [*broken_promises(mode, beginning + events)])
    }
    assert dict(itertools.islice(broken.items(), 5)) == {}


# The table of endings

TABLE = {
    # ending: (on_abort, handler, last event, what an EventSource finds that comes back)
    "completed": (False, "grace", "sse.end", 204),
    "topic_closed": (False, "grace", "sse.end", 204),
    "handler_error": (False, "grace", "sse.error", "again"),
    "client_disconnect": (True, "cancel", None, "again"),
    "slow_client": (True, "cancel", None, "again"),
    "max_duration": (True, "cancel", None, "again"),
    "shutdown": (True, "cancel", None, "again"),
    "revoked": (True, "cancel", "sse.end", 204),
    "kicked": (True, "cancel", "sse.end", 204),
}


@pytest.mark.parametrize("ending", Ending)
def test_each_ending_does_what_its_row_says(ending: Ending) -> None:
    life = PLAIN.life()
    for name in OPEN:
        INPUTS[name](life)
    effects = life.ended(ending)
    words = [shown(effect) for effect in effects]
    (finish,) = (effect for effect in effects if isinstance(effect, Finish))
    fate = next(word for word in words if word in ("cancel", "grace"))
    assert ("abort" in words, fate, finish.last_event, 204 if finish.final else "again") == TABLE[ending]
    assert life.awaits_cleanup is ending.aborts


def test_every_ending_has_its_row() -> None:
    assert ENDINGS.keys() == {*Ending}


def test_what_is_written_is_sent_before_every_end_but_two() -> None:
    unsent = {ending for ending in Ending if Action.DISCARD_UNSENT in PLAIN.life().ended(ending)}
    assert unsent == {Ending.CLIENT_DISCONNECT, Ending.SLOW_CLIENT}


def test_only_a_whole_response_looks_finished_without_control_events() -> None:
    whole = set()
    for ending in Ending:
        life = Mode(control=False, continues=False).life()
        life.ended(ending)
        if Action.BREAK_OFF not in life.drained():
            whole.add(ending)
    assert whole == {Ending.COMPLETED, Ending.TOPIC_CLOSED}


# Purity


@pytest.mark.parametrize("module", [lifecycle, endings, messages])
def test_the_rules_know_no_loop_no_clock_and_no_django(module: ModuleType) -> None:
    tree = ast.parse(Path(str(module.__file__)).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {f"{'.' * node.level}{node.module}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    inside = {".endings", ".lifecycle", ".last_event_id", "..wire.encoder"}
    assert names <= {"__future__", "collections.abc", "dataclasses", "enum", "typing", "json", *inside}
