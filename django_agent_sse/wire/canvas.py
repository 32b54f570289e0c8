"""The rows that a command may still draw on, and where its cursor stands."""

from __future__ import annotations

from collections import deque

from .screen import CELLS, HEIGHT, MOVES, PLAIN, TAB, TOKENS, Row


class Canvas:
    """Rows, the last of which has no end yet. Those before it are complete, and leave by ``complete``, unless they are held.

    Rows are held from the highest one on that the cursor has gone up to: it may go there again.

    Args:
        above: The lines that were told before, the newest last: going up takes from it.
        limit: Cells of a row at most.
        saved: Where the cursor was saved: its row, counted from the first one here, and its column.

    Attributes:
        saved: Where it is saved now.
    """

    def __init__(self, above: deque[str], limit: int, saved: tuple[int, int] = (0, 0)) -> None:
        self._above = above
        self._limit = limit
        self._rows = deque([Row()])
        self._row = self._column = 0
        self._look = PLAIN
        self._home: int | None = None
        self.saved = saved
        self._taken: list[str] = []
        self._held_from: int | None = None
        self._reached: int | None = None  # since settle()
        self._touched = False
        self.drawn = False

    @property
    def held(self) -> bool:
        """Whether rows are held."""
        return self._held_from is not None

    @property
    def empty(self) -> bool:
        """Whether nothing is left that could change."""
        cursor = self._row or self._column
        return not (
            self.held or self.drawn or self._look != PLAIN or self._taken or cursor or len(self._rows) > 1 or len(self._rows[0])
        )

    def write(self, text: str) -> tuple[bool, bool]:
        """Draw. Return whether the cursor left its row upwards, and whether anything changed that is not a complete line."""
        self._moved, self._touched = False, False
        first, *others = text.split("\n")
        self._write_row(first)
        for line in others:
            self._feed_line()
            self._write_row(line)
        return self._moved, self._touched

    def complete(self) -> list[str]:
        """Return the lines that are complete and not held, and forget them."""
        keep = len(self._rows) - 1 if self._held_from is None else min(self._held_from, len(self._rows) - 1)
        keep = min(keep, self._row)  # the cursor may stand above the last row
        count = max(keep, len(self._rows) - HEIGHT, self._overfull())
        lines = [self._rows.popleft().text for _ in range(count)]
        self._shift(-count)
        self.drawn = self.drawn and any(row.redrawn for row in self._rows)
        return lines

    def draft(self, most: int) -> str:
        """Return what is left, up to so many bytes of it, the last ones."""
        texts = [row.text for row in self._rows]
        if texts and not texts[-1]:
            texts.pop()
        text = "\n".join(texts)
        encoded = text.encode("utf-8", "replace")
        if len(encoded) <= most:
            return text
        left = encoded[-most:].decode("utf-8", "ignore")
        return left.partition("\n")[2] or left  # the last rows that fit

    def take_back(self) -> list[str]:
        """Return the lines that were told and are among the rows again, once."""
        taken, self._taken = self._taken, []
        return taken

    def settle(self) -> None:
        """Hold only what the cursor has gone up to since the last time."""
        self._held_from, self._reached = self._reached if self._reached is not None else self._held_from, None

    def release(self) -> None:
        """Hold nothing: the cursor stays below."""
        self._held_from = self._reached = None

    def finish(self) -> tuple[list[str], list[str]]:
        """Return the lines that are taken back, and all that is left."""
        lines = [row.text for row in self._rows]
        if lines and not lines[-1]:
            lines.pop()
        self._rows = deque([Row()])
        return self.take_back(), lines

    def _overfull(self) -> int:
        cells, count = sum(map(len, self._rows)), 0
        while cells > CELLS and count < len(self._rows) - 1:
            cells -= len(self._rows[count])
            count += 1
        return count

    def _shift(self, by: int) -> None:
        self._row = max(0, self._row + by)
        self._home = None if self._home is None else max(0, self._home + by)
        self.saved = (self.saved[0] + by, self.saved[1])
        self._held_from = None if self._held_from is None else max(0, self._held_from + by)
        self._reached = None if self._reached is None else max(0, self._reached + by)

    # Drawing

    def _write_row(self, line: str) -> None:
        """Draw what stands between two line feeds."""
        row = self._rows[self._row]  # where it is raw, the cursor stands at its end
        if row.is_raw and (self._look == PLAIN or len(row)) and self._stays_raw(line):
            text = line.removesuffix("\r")
            row.extend(text)
            if "\x1b" in text:
                for token in TOKENS.finditer(text):
                    self._look = self._look.after(token)
            return
        self._column = row.draw() if row.is_raw else self._column
        for token in TOKENS.finditer(line):
            if (text := token["text"]) is not None:
                self._put(text)
            elif (final := token["final"]) is not None:
                self._look = self._look.after(token)
                if not token["private"]:
                    self._sequence(final, token["numbers"])
            elif token["string"] is not None:
                self._look = self._look.after(token)
            elif token["escape"] is not None:
                self._escape(token["escape"])
            else:
                self._control(token["control"])

    def _stays_raw(self, line: str) -> bool:
        return len(self._rows[self._row]) + len(line) <= self._limit and MOVES.search(line) is None

    def _put(self, text: str) -> None:
        row = self._rows[self._row]
        if self._column + len(text) > self._limit:
            text = text[: max(0, self._limit - self._column)]  # a row has an end: what is right of it is not seen
        self._column = row.put(self._column, text, self._look)
        self._touch()

    def _touch(self) -> None:
        self._touched = True
        if self._rows[self._row].redrawn:
            self.drawn = True

    def _feed_line(self) -> None:
        self._column = 0
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append(Row())
        else:
            self._rows[self._row].draw()

    def _control(self, char: str) -> None:
        if char == "\r":
            self._column = 0
            self._redraw()
        elif char == "\x08":
            self._column = max(0, self._column - 1)
            self._redraw()
        elif char == "\t":
            self._column = (self._column // TAB + 1) * TAB
        elif char in "\x0b\x0c\x85":
            column = self._column
            self._feed_line()
            self._column = column

    def _redraw(self) -> None:
        row = self._rows[self._row]
        row.draw()
        row.redrawn = True  # also an empty one: what begins so will be drawn again
        if len(row):
            self._touch()

    def _escape(self, final: str) -> None:
        if final == "7":
            self.saved = (self._row, self._column)
        elif final == "8":
            self._go(*self.saved)
        elif final == "D":
            self._go(self._row + 1, self._column)
        elif final == "E":
            self._go(self._row + 1, 0)
        elif final == "M":
            self._go(self._row - 1, self._column)

    def _sequence(self, final: str, numbers: str) -> None:
        values = [min(int(part), self._limit) if part.isdecimal() and len(part) < 8 else 0 for part in numbers.split(";")]
        count = max(1, values[0])
        match final:
            case "A" | "F":
                self._go(self._row - count, self._column if final == "A" else 0)
            case "B" | "e" | "E":
                self._go(self._row + count, 0 if final == "E" else self._column)
            case "C" | "a":
                self._column = min(self._limit, self._column + count)
            case "D":
                self._column = max(0, self._column - count)
                self._redraw()
            case "G" | "`":
                self._column = count - 1
                self._redraw()
            case "H" | "f":
                self._go_home(count - 1, max(1, values[1] if len(values) > 1 else 1) - 1)
            case "d":
                self._go_home(count - 1, self._column)
            case "s":
                self.saved = (self._row, self._column)
            case "u":
                self._go(*self.saved)
            case "J":
                self._erase_display(values[0])
            case "K":
                self._erase_line(values[0])
            case "X":
                self._rows[self._row].erase(self._column, self._column + count)
                self._redraw()
            case "@":
                self._rows[self._row].insert(self._column, min(count, self._limit - len(self._rows[self._row])))
                self._redraw()
            case "P":
                self._rows[self._row].insert(self._column, -count)
                self._redraw()
            case "L" | "M":
                self._insert_rows(min(count, HEIGHT) if final == "L" else -min(count, HEIGHT))

    def _erase_line(self, what: int) -> None:
        row = self._rows[self._row]
        before = len(row)
        row.erase(0 if what == 2 else self._column, None) if what in (0, 2) else row.erase(0, self._column + 1)
        if before:
            row.redrawn = True
            self._touch()
            self._touched = True

    def _erase_display(self, what: int) -> None:
        if what == 0:
            self._rows[self._row].erase(self._column, None)
            below = range(self._row + 1, len(self._rows))
        elif what in (2, 3):
            self._set_home()
            below = range(self._home or 0, len(self._rows))
        else:
            below = range(self._home or 0, self._row)
        for number in below:
            self._rows[number] = Row()
        if what == 0 and self._row + 1 < len(self._rows):
            for _ in below:
                self._rows.pop()
        self.drawn = self._touched = True
        self._redraw()

    def _insert_rows(self, count: int) -> None:
        for _ in range(count):
            self._rows.insert(self._row, Row())
        for _ in range(min(-count, len(self._rows) - self._row)):
            del self._rows[self._row]
        if self._row == len(self._rows):
            self._rows.append(Row())
        self._column = 0
        self._hold(self._row)

    def _set_home(self) -> None:
        """A program that draws on the whole screen begins below what there is."""
        if self._home is None:
            self._home = len(self._rows) - 1
            if len(self._rows[-1]):
                self._home += 1
                self._rows.append(Row())

    def _go_home(self, down: int, column: int) -> None:
        self._set_home()
        self._go((self._home or 0) + min(down, HEIGHT), min(column, self._limit))

    def _go(self, row: int, column: int) -> None:
        while row < 0 and self._above and len(self._rows) < HEIGHT:
            line = self._above.pop()
            self._rows.appendleft(Row(line))
            self._shift(1)
            self._taken.append(line)
            row += 1
        row = max(0, row)
        while row >= len(self._rows) and len(self._rows) < 2 * HEIGHT:
            self._rows.append(Row())
        row = min(row, len(self._rows) - 1)
        if row < self._row or (self._home is not None and row <= self._row and row == self._home):
            self._hold(row)
        self._row, self._column = row, column
        self._rows[row].draw()

    def _hold(self, row: int) -> None:
        self._moved = self.drawn = self._touched = True
        self._held_from = row if self._held_from is None else min(self._held_from, row)
        self._reached = row if self._reached is None else min(self._reached, row)
        self._rows[row].redrawn = True
