"""A small shop, with two mistakes in it: the recipe "shop" tests it, and fails."""

from __future__ import annotations

from decimal import Decimal


def discounted(price: Decimal, percent: int) -> Decimal:
    """The price with so many percent off, in whole cents."""
    return price * (100 - percent) / 100


class Cart:
    """What somebody is going to buy."""

    def __init__(self) -> None:
        self.items: dict[str, tuple[Decimal, int]] = {}

    def add(self, name: str, price: Decimal, count: int = 1) -> None:
        _, there = self.items.get(name, (price, 0))
        self.items[name] = price, there + count

    def remove(self, name: str) -> None:
        """Take all of one thing out; nothing happens where there is none."""
        del self.items[name]

    @property
    def total(self) -> Decimal:
        return sum((price * count for price, count in self.items.values()), Decimal(0))
