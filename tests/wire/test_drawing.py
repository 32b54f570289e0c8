"""What a command draws again and again becomes lines once: as a terminal shows them in the end."""

from __future__ import annotations

from collections.abc import Iterable

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_agent_sse import Event
from django_agent_sse.wire.drawing import (
    DRAFT_BYTES,
    INTERVAL,
    LONGEST_INTERVAL,
    LONGEST_QUIET,
    Change,
    DrawnLines,
)
from django_agent_sse.wire.redraws import MOST_LINES, Printed, Redraw, redraw_of, take_back
from django_agent_sse.wire.screen import HEIGHT

UP = "\x1b[A"


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(chunks: Iterable[bytes | str], pause: float = 0.1, limit: int = 1000) -> list[Change]:
    """Everything that is told of output that comes with so many seconds in between."""
    clock = Clock()
    lines = DrawnLines(limit, clock)
    changes: list[Change] = []
    for chunk in chunks:
        changes += lines.feed(chunk.encode() if isinstance(chunk, str) else chunk)
        end = clock.now + pause
        while (due := lines.due) is not None and due <= end:
            clock.now = max(clock.now, due)
            changes += lines.tick()
        clock.now = end
    return changes + lines.finish()


def shown(changes: Iterable[Change]) -> list[str]:
    """The lines that a reader ends with, and the draft after them."""
    lines: list[str] = []
    draft = ""
    for change in changes:
        if isinstance(change, Redraw):
            assert len(lines) >= change.lines
            del lines[len(lines) - change.lines :]
            draft = change.text
        else:
            lines.append(change)
    return [*lines, *(draft.split("\n") if draft else [])]


def terminal(text: str, rows: int = 60, columns: int = 200) -> list[str]:
    """What a terminal emulator shows of it in the end."""
    screen = pyte.Screen(columns, rows)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def test_plain_output_is_told_as_it_is_at_once() -> None:
    lines = DrawnLines(1000)
    assert lines.feed(b"a\r\n\x1b[1;31mb\x1b[0m\tc\x1b[K\nrest") == ["a", "\x1b[1;31mb\x1b[0m\tc\x1b[K"]
    assert lines.due is None
    assert lines.finish() == ["rest"]


def test_a_bar_is_one_line_and_a_draft_a_second() -> None:
    changes = drawn([f"\r{step}%" for step in range(601)] + ["\ndone\n"])
    assert shown(changes) == ["600%", "done"]
    assert [change for change in changes if isinstance(change, str)] == ["600%", "done"]
    drafts = [change.text for change in changes if isinstance(change, Redraw)]
    assert drafts[:2] == ["0%", "10%"]
    assert drafts[-1] == "", "the line takes its place"
    assert len(drafts) <= 62


def test_what_is_drawn_last_is_told_though_nothing_follows() -> None:
    clock = Clock()
    lines = DrawnLines(1000, clock)
    assert lines.feed(b"\r1%") == [Redraw(0, "1%")]
    clock.now = 0.1
    assert lines.feed(b"\r2%") == []
    assert lines.due == INTERVAL
    clock.now = INTERVAL
    assert lines.tick() == [Redraw(0, "2%")]
    assert lines.due is None


def test_a_day_of_frames_is_bounded() -> None:
    changes = drawn((f"\r{step}" for step in range(86_400)), pause=1.0)
    assert len(changes) < 86_400 / LONGEST_INTERVAL + 400
    assert shown(changes) == ["86399"]


def test_rows_that_the_cursor_goes_back_to_are_taken_back_once_and_stand_once() -> None:
    frames = [f"{UP}\x1b[2K\r{UP}\x1b[2K\ra {step}\nb {step}\n" for step in range(1, 600)]
    changes = drawn(["before\na 0\nb 0\n", *frames, "after\n"])
    assert shown(changes) == ["before", "a 599", "b 599", "after"]
    assert [change.lines for change in changes if isinstance(change, Redraw) and change.lines] == [2]
    assert len(changes) < 75


@pytest.mark.parametrize("pause", [0.05, 0.7, 1.5, 4.0, LONGEST_QUIET + 1])
def test_however_slow_the_frames_are_the_end_is_that_of_a_terminal(pause: float) -> None:
    frames = [f"\x1b[3A\x1b[Jx {step}\ny\nz {step * 'z'}\n" for step in range(20)]
    text = ["start\n", "x\ny\nz\n", *frames, "end"]
    assert shown(drawn(text, pause)) == terminal("".join(text))


def test_lines_go_on_while_a_bar_stands_below_them() -> None:
    """As cargo and apt draw it: each line where the bar was, and the bar again."""
    frames = [f"\r\x1b[K   Compiling part {step}\n    Building {step}/300\r" for step in range(300)]
    changes = drawn(frames, pause=0.01)
    lines = [change for change in changes if isinstance(change, str)]
    assert lines[:300] == [f"   Compiling part {step}" for step in range(300)]
    assert lines[300:] == ["    Building 299/300"]
    assert len(changes) - len(lines) <= 6


def test_colours_and_links_stay_with_what_they_are_of() -> None:
    link = "\x1b]8;;http://a/\x1b\\b\x1b]8;;\x1b\\"
    text = f"\x1b[31mred\x1b[0m plain\r\x1b[42mR\x1b[0m\n\rx{link}y\n"
    (first, second) = [change for change in drawn([text]) if isinstance(change, str)]
    assert first == "\x1b[42mR\x1b[0m\x1b[31med\x1b[0m plain"
    assert second == f"x{link}y"


def test_where_the_cursor_stands_is_known_though_nothing_is_drawn_there_yet() -> None:
    assert shown(drawn(["\x1b[3G", "a"])) == ["  a"]


def test_wide_and_combining_characters_take_their_columns() -> None:
    for text in ("日本語\rab", "e\u0301abc\rE", "abc\x1b[2G日"):
        assert shown(drawn([text]))[0].rstrip() == terminal(text)[0].rstrip()


def test_a_character_that_is_cut_after_a_movement_is_one() -> None:
    assert shown(drawn([b"\x1b[2A\xc3", b"\xa9\n"])) == ["é"]


def test_of_a_wide_character_nothing_is_left_where_a_half_of_it_is_erased() -> None:
    assert shown(drawn(["a日é\x1b[2D\x1b[K"])) == ["a"]  # as xterm does


def test_a_screen_that_is_drawn_anew_stands_once_below_what_was_before() -> None:
    frames = [f"\x1b[H\x1b[2JEvery 2 s: ls {step}\n\nfile\n" for step in range(50)]
    assert shown(drawn(["make\n", *frames])) == ["make", "Every 2 s: ls 49", "", "file"]


def test_the_markers_of_gitlab_stay() -> None:
    text = "section_start:1700000000:build[collapsed=true]\r\x1b[0KBuild\nx\nsection_end:1700000001:build\r\x1b[0K\n"
    wanted = ["section_start:1700000000:build[collapsed=true]\x1b[0KBuild", "x", "section_end:1700000001:build\x1b[0K"]
    for size in (1, 7, 64, 200):
        assert drawn([text[at : at + size] for at in range(0, len(text), size)]) == wanted


def test_nothing_is_unbounded() -> None:
    changes = drawn(
        [UP * 5000, "\x1b[99999999B\x1b[99999999C\x1b[999999999999d x", "\x1b[5000A" + "y\n" * 3000, "\x1b[9000G\x08\x1b[J"]
    )
    assert max(change.lines for change in changes if isinstance(change, Redraw)) <= MOST_LINES
    huge = drawn(["a\n" * 500, f"\x1b[{HEIGHT}A", ("é" * 900 + "\n") * HEIGHT])
    assert all(len(change.text.encode()) <= DRAFT_BYTES for change in huge if isinstance(change, Redraw))


def test_a_line_that_is_too_long_goes_on_behind_a_mark() -> None:
    assert drawn([b"x" * 25 + b"\r\nshort"], limit=13) == ["xxxxxxxxxx…", "xxxxxxxxxx…", "xxxxx", "short"]


CONTROLS = "\r \r\n \x08 \x1b[A \x1b[2A \x1b[B \x1b[2K \x1b[K \x1b[1K \x1b[J \x1b[3G \x1b[31m \x1b[0m \x1b[C \x1b[2D \x1b[2X"
# Nothing wide: where half of it is overwritten pyte leaves the other half.
OTHERS = ["\x1b7a\x1b8", "\x1b7bc\x1b8", "\x1b[?25l", "\x1b[2F", "\x1b[E", "a", "bc", "\n", "é", "hello"]
PIECES = st.lists(st.sampled_from([*CONTROLS.split(" "), *OTHERS]), max_size=40)


@given(pieces=PIECES, cuts=st.lists(st.integers(1, 9), max_size=20), pause=st.sampled_from([0.0, 0.4, 3.0]))
def test_however_output_is_cut_and_paced_the_end_is_that_of_a_terminal(pieces: list[str], cuts: list[int], pause: float) -> None:
    text = "".join(pieces)
    data, chunks = text.encode(), []
    for size in cuts:
        chunks.append(data[:size])
        data = data[size:]
    end = shown(drawn([*chunks, data], pause))
    plain = [terminal(line)[0].rstrip() if line.strip() and terminal(line) else "" for line in end]
    while plain and not plain[-1]:
        plain.pop()
    assert plain == terminal(text)


SEQUENCES = (
    *("\r\x1b[K", "\r\x1b[2K", "\x1b[2K\x1b[1G", "\x1b(B\x1b[m", "\x1b]0;a title\x07", "\x1b]9;4;1;50\x1b\\", "\x1b[?25l"),
    *("\x1b[>4;1m", "\x1b=", "\x1b]8;;https://example.org/a\x1b\\link\x1b]8;;\x1b\\", "\x1b[38;2;10;20;30m"),
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_sequence_may_be_cut_anywhere(sequence: str, size: int) -> None:
    """Nothing of it is printed, and a carriage return before it is not lost."""
    text = f"one\r\x1b[1mfirst{sequence}two\nthree\x1b[A\r{sequence}x{sequence}yz\n"
    data = text.encode()
    end = shown(drawn([data[at : at + size] for at in range(0, len(data), size)]))
    assert [terminal(line)[0] for line in end] == terminal(text)


def test_a_place_is_remembered_beyond_the_lines_that_are_done() -> None:
    for between in ("", "\n".join("abcde") + "\n"):
        text = f"head\n\x1b7status: 0\n{between}tail\n\x1b8\x1b7status: 1\x1b8done\x1b[K"
        for pause in (0.0, 0.1, 5.0):
            assert shown(
                drawn([f"{line}\n" if at < text.count("\n") else line for at, line in enumerate(text.split("\n"))], pause)
            ) == [
                *("head", "done", *between.split()),
                "tail",
            ]


def test_lines_are_inserted_and_deleted_at_the_margin() -> None:
    for text in ("ab\ncd\x1b[Lef\n", "ab\ncd\x1b[A\x1b[Mef\n", "ab\ncd\x1b[2Lx\n\x1b[My\n", "ab\ncd\x1b[A\x1b[L\x1b[L1\n2\n3"):
        assert [line.rstrip() for line in shown(drawn([text]))] == terminal(text)
    assert shown(drawn(["ab\ncd\x1b[5M"])) == ["ab"]


def test_a_link_is_of_the_cells_that_it_was_written_with() -> None:
    link, end = "\x1b]8;;https://example.org/\x1b\\", "\x1b]8;;\x1b\\"
    assert shown(drawn([f"xxxx\r{link}ab{end}c\n"])) == [f"{link}ab{end}cx"]
    assert shown(drawn([f"{link}abcd{end}\r\x1b[2Cx\n"])) == [f"{link}ab{end}x{link}d{end}"]
    assert shown(drawn([f"{link}abcd{end}\r\x1b[K1 %\n"])) == ["1 %"]
    assert shown(drawn([f"x\r\x1b[31m{link}ab\x1b[0mc{end}d\n"])) == [f"{link}\x1b[31mab\x1b[0mc{end}d"]


# The event


def test_lines_that_are_taken_back_say_how_many_were_errors() -> None:
    printed = "ERROR: a\nWARNING: b\nok\n"
    changes = drawn([printed, "\x1b[3A\x1b[Jfine\nfine\nfine\n"], 5)
    assert [change for change in changes if isinstance(change, Redraw) and change.lines] == [
        Redraw(3, "fine\nfine\nfine", errors=1, warnings=1)
    ]
    event = Redraw(3, "x", 1, 2).event("stdout")
    assert event.data == '{"source":"stdout","lines":3,"text":"x","errors":1,"warnings":2}'
    assert redraw_of(event.event, event.data) == ("stdout", Redraw(3, "x", 1, 2))
    for odd in ('"errors":4', '"errors":-1', '"errors":true', '"errors":"1"', '"errors":null'):
        assert redraw_of("replace", f'{{"source":"stdout","lines":3,"text":"x",{odd}}}') == ("stdout", Redraw(3, "x"))
    assert redraw_of("replace", '{"source":"stdout","lines":3,"text":"","errors":2,"warnings":3}') == (
        "stdout",
        Redraw(3, "", 2, 1),
    )


def test_the_event_says_what_it_replaces() -> None:
    event = Redraw(2, "a\nb").event("stderr")
    assert event == Event('{"source":"stderr","lines":2,"text":"a\\nb"}', event="replace")
    assert redraw_of(event.event, event.data) == ("stderr", Redraw(2, "a\nb"))


@pytest.mark.parametrize(
    "data",
    [
        *("", "x", "[]", "{}", "null", "[" * 100_000, '{"source":"stdout","lines":1}'),
        *('{"source":"stdout","lines":-1,"text":""}', '{"source":"x","lines":1,"text":""}', '{"source":[],"lines":1,"text":""}'),
        *('{"source":"stdout","lines":true,"text":""}', '{"source":"stdout","lines":201,"text":""}'),
        '{"source":"stdout","lines":1,"text":"' + "x" * 10 * DRAFT_BYTES + '"}',
    ],
)
def test_an_event_of_that_name_that_says_nothing_of_the_kind_replaces_nothing(data: str) -> None:
    assert redraw_of("replace", data) is None


def test_lines_of_one_source_are_taken_back_and_of_the_other_not() -> None:
    printed = [Printed("stdout", ["a", "b"], None), Printed("stderr", ["c"], None), Printed("stdout", ["d"], None)]
    assert take_back(printed, "stdout", 2) == 0
    assert printed == [Printed("stdout", ["a"], None), Printed("stderr", ["c"], None)]
    assert take_back(printed, "stdout", 5) == 4
    assert printed == [Printed("stderr", ["c"], None)]
