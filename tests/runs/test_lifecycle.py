"""The life of a run without any event loop or log: every order of two and three events, and what must be done after each.

Effects are written as words. What is expected does not come from the code: pairs have a table, and longer lives have ``RULES``,
which say of each effect when it must come, by what has happened before and by nothing else.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from functools import cache

import pytest

from django_agent_sse.runs.endings import RunEnding
from django_agent_sse.runs.lifecycle import Action, Close, Effect, Outcome, RunLifecycle

INPUTS: dict[str, Callable[[RunLifecycle], tuple[Effect, ...]]] = {
    "started": lambda life: life.started(),
    "wrote": lambda life: life.wrote(),
    "stop": lambda life: life.stop_requested(),
    "shutdown": lambda life: life.shutdown(),
    "returned": lambda life: life.producer_done(Outcome.RETURNED),
    "raised": lambda life: life.producer_done(Outcome.RAISED),
    "refused": lambda life: life.producer_done(Outcome.WRITE_REFUSED),
    "cancelled": lambda life: life.producer_done(Outcome.CANCELLED),
    "deadline": lambda life: life.deadline(),
    "close_done": lambda life: life.close_done(),
    "lease_lost": lambda life: life.lease_lost(),
    "closed by staff": lambda life: life.closed_elsewhere(lost=False),
    "closed as lost": lambda life: life.closed_elsewhere(lost=True),
}
OPEN = ("started",)
"""What has happened to a run that goes on; the other beginning is the very first moment."""

WORDS = {
    Action.RUN_PRODUCER: "run",
    Action.APPEND: "append",
    Action.REFUSE_WRITE: "refuse",
    Action.CANCEL_PRODUCER: "cancel",
    Action.SET_DEADLINE: "wait",
    Action.CLEAR_DEADLINE: "clear",
    Action.ABANDON_PRODUCER: "abandon",
    Action.DISCARD_UNSENT: "discard",
    Action.EXPIRE: "expire",
    Action.STOP_RENEWING: "unrenew",
    Action.LOG_LATE_ERROR: "log",
    Action.CONCLUDE: "conclude",
}
Past = tuple[str, ...]


def shown(effect: Effect) -> str:
    return f"close({effect.ending})" if isinstance(effect, Close) else WORDS[effect]


def lived(inputs: Past) -> list[str]:
    """What was to be done after each of the inputs, as words."""
    life = RunLifecycle()
    return [" ".join(map(shown, INPUTS[name](life))) for name in inputs]


def ending_after(inputs: Past) -> str | None:
    life = RunLifecycle()
    for name in inputs:
        INPUTS[name](life)
    return life.ending


# One and two events of a run that goes on, written out

ALONE = {
    "wrote": "append",
    "stop": "cancel wait",
    "shutdown": "cancel wait",
    "returned": "close(finished)",
    "raised": "close(failed)",
    "refused": "close(failed)",
    "cancelled": "close(interrupted)",
    "lease_lost": "discard expire cancel wait unrenew",
    "closed by staff": "discard cancel wait unrenew",
    "closed as lost": "discard cancel wait unrenew",
}
_OVERRULED = {"lease_lost": "discard expire unrenew", "closed by staff": "discard unrenew", "closed as lost": "discard unrenew"}


def _asked_to_end(ending: str) -> dict[str, str]:
    return {
        "wrote": "refuse",
        "returned": f"clear close({ending})",
        "raised": f"clear log close({ending})",
        "refused": f"clear close({ending})",
        "cancelled": f"clear close({ending})",
        "deadline": f"abandon close({ending})",
        **_OVERRULED,
    }


AFTER = {
    ("started", "wrote", "deadline", "close_done"): ALONE,
    ("stop",): _asked_to_end("stopped"),
    ("shutdown",): _asked_to_end("interrupted"),
    ("returned", "raised", "refused", "cancelled"): {
        "wrote": "refuse",
        "close_done": "unrenew conclude",
        **{name: f"{words} conclude" for name, words in _OVERRULED.items()},
    },
    ("lease_lost", "closed by staff", "closed as lost"): {
        "wrote": "refuse",
        "returned": "clear conclude",
        "raised": "clear log conclude",
        "refused": "clear conclude",
        "cancelled": "clear conclude",
        "deadline": "abandon conclude",
    },
}
"""The second event, after each first one."""


def test_one_event_of_a_run_that_goes_on() -> None:
    assert {name: lived((*OPEN, name))[-1] for name in INPUTS} == dict.fromkeys(INPUTS, "") | ALONE


def test_two_events_of_a_run_that_goes_on() -> None:
    expected = {first: dict.fromkeys(INPUTS, "") | row for firsts, row in AFTER.items() for first in firsts}
    assert expected.keys() == INPUTS.keys()
    assert {first: {second: lived((*OPEN, first, second))[-1] for second in INPUTS} for first in INPUTS} == expected


ASKED = {
    "stop": "stopped",
    "shutdown": "interrupted",
    "returned": "finished",
    "raised": "failed",
    "refused": "failed",
    "cancelled": "interrupted",
}
"""The ending that an event asks for; the first one gets it."""
OVERRULES = {"lease_lost": "lost", "closed as lost": "lost", "closed by staff": "stopped"}
"""The log's word, which counts until the topic is closed."""


@pytest.mark.parametrize(("first", "second"), [*itertools.product(INPUTS, repeat=2)])
def test_of_two_that_want_to_end_it_the_first_says_how_but_the_log_has_the_last_word(first: str, second: str) -> None:
    wanted = OVERRULES.get(first) or OVERRULES.get(second) or ASKED.get(first) or ASKED.get(second)
    assert ending_after((*OPEN, first, second)) == wanted


def test_what_the_log_has_taken_stays() -> None:
    for done, late in itertools.product(("returned", "raised", "cancelled"), INPUTS):
        assert ending_after((*OPEN, done, "close_done", late)) == ASKED[done]
        assert lived((*OPEN, done, "close_done", late))[-1] == ("refuse" if late == "wrote" else "")


# The rules for any order: what has happened before decides, and nothing else

DONE = {"returned", "raised", "refused", "cancelled"}


class Story:
    """What can be said of a run after some events."""

    def __init__(self) -> None:
        for name in ("decided", "settled", "over", "closing", "abandoned"):
            setattr(self, name, cache(getattr(self, name)))

    def decided(self, past: Past) -> str | None:
        """The ending as it is decided so far."""
        ending: str | None = None
        for before, now in steps(past):
            if now in OVERRULES and not self.settled(before):
                ending = OVERRULES[now]
            elif ending is None and now in ASKED and not (now in DONE and self.over(before)):
                ending = ASKED[now]
        return ending

    def settled(self, past: Past) -> bool:
        """Whether the topic is closed."""
        return any(now in OVERRULES or (now == "close_done" and self.closing(before)) for before, now in steps(past))

    def over(self, past: Past) -> bool:
        """Whether the code is over, or never begins."""
        return any(now in DONE or (now == "started" and self.never_begins(before)) for before, now in steps(past))

    def never_begins(self, before: Past) -> bool:
        return "started" not in before and not {*before} & DONE and self.decided(before) is not None

    def running(self, past: Past) -> bool:
        return "started" in past and not self.over(past)

    def abandoned(self, past: Past) -> bool:
        return any(self.abandons(before, now) for before, now in steps(past))

    def abandons(self, before: Past, now: str) -> bool:
        return now == "deadline" and self.waits(before)

    def waits(self, past: Past) -> bool:
        """Whether the code is given a moment."""
        return self.running(past) and self.decided(past) is not None and not self.abandoned(past)

    def done(self, before: Past, now: str) -> bool:
        return now in DONE and not self.over(before)

    def closes(self, before: Past, now: str) -> bool:
        ends = self.abandons(before, now) or (not self.over(before) and self.over((*before, now)))
        return ends and not self.settled(before) and not self.closing(before)

    def closing(self, past: Past) -> bool:
        return any(self.closes(before, now) for before, now in steps(past))

    def overrules(self, before: Past, now: str) -> bool:
        return now in OVERRULES and not self.settled(before)

    def cancels(self, before: Past, now: str) -> bool:
        wants = now in ("stop", "shutdown") or self.overrules(before, now)
        return wants and self.running(before) and self.decided(before) is None

    def settles(self, before: Past, now: str) -> bool:
        return not self.settled(before) and self.settled((*before, now))

    def all_over(self, past: Past) -> bool:
        return self.settled(past) and (self.over(past) or self.abandoned(past))


def steps(past: Past) -> Iterator[tuple[Past, str]]:
    return ((past[:index], now) for index, now in enumerate(past))


RULES: dict[str, Callable[[Story, Past, str], object]] = {
    "run": lambda s, p, now: now == "started" and not {*p} & {"started", *DONE} and s.decided(p) is None,
    "append": lambda s, p, now: now == "wrote" and s.decided(p) is None,
    "refuse": lambda s, p, now: now == "wrote" and s.decided(p),
    "abandon": lambda s, p, now: s.abandons(p, now),
    "clear": lambda s, p, now: s.done(p, now) and s.waits(p),
    "log": lambda s, p, now: now == "raised" and s.done(p, now) and s.decided(p),
    "close": lambda s, p, now: s.closes(p, now),
    "discard": lambda s, p, now: s.overrules(p, now),
    "expire": lambda s, p, now: s.overrules(p, now) and now == "lease_lost",
    "cancel": lambda s, p, now: s.cancels(p, now),
    "wait": lambda s, p, now: s.cancels(p, now),
    "unrenew": lambda s, p, now: s.settles(p, now),
    "conclude": lambda s, p, now: s.all_over((*p, now)) and not s.all_over(p),
}
"""When each effect comes, in the order in which effects come."""


def expected(story: Story, past: Past, now: str) -> str:
    words = [word for word, rule in RULES.items() if rule(story, past, now)]
    return " ".join(f"close({story.decided((*past, now))})" if word == "close" else word for word in words)


@pytest.mark.parametrize("beginning", [(), OPEN], ids=str)
def test_every_order_of_three_events_has_its_effects(beginning: Past) -> None:
    """The first two of three are every order of two."""
    story, wrong = Story(), []
    for events in itertools.product(INPUTS, repeat=3):
        happened = lived(beginning + events)[len(beginning) :]
        rules = [expected(story, beginning + events[:index], events[index]) for index in range(3)]
        if happened != rules:
            wrong.append((events, happened, rules))
        assert ending_after(beginning + events) == story.decided(beginning + events), events
    assert wrong[:5] == []


def test_longer_lives_have_their_effects() -> None:
    story, dice = Story(), random.Random(19)
    for _ in range(500):
        events = tuple(dice.choices([*INPUTS], k=9))
        assert lived(events) == [expected(story, events[:index], now) for index, now in enumerate(events)], events


# What holds in every life, whatever the rules

ONCE = {"run", "cancel", "wait", "clear", "abandon", "discard", "expire", "unrenew", "log", "conclude"}


def test_no_life_breaks_a_promise() -> None:
    dice = random.Random(20)
    for _ in range(2000):
        events = tuple(dice.choices([*INPUTS], k=8))
        each = [words.split() for words in lived(events)]
        words = [word for some in each for word in some]
        assert all(words.count(word) <= 1 for word in ONCE), events
        assert sum(word.startswith("close") for word in words) <= 1, events
        ends = [index for index, some in enumerate(each) if "refuse" in some]
        assert all("append" not in some for some in each[ends[0] :]) if ends else True, "nothing is written after a refusal"
        if "conclude" in words:
            rest = words[words.index("conclude") + 1 :]
            assert {*rest} <= {"refuse", "log"}, (events, "after all is over only a late error is logged")


@pytest.mark.parametrize("beginning", [(), OPEN], ids=str)
def test_every_life_can_be_brought_to_its_end(beginning: Past) -> None:
    for events in itertools.product(INPUTS, repeat=2):
        life = RunLifecycle()
        for name in (*beginning, *events, "started", "returned", "close_done"):
            INPUTS[name](life)
        assert life.concluded, events
        assert life.ending in RunEnding
