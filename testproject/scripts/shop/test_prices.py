from decimal import Decimal

import pytest
from shop import discounted


@pytest.mark.parametrize(("price", "percent", "expected"), [("10.00", 10, "9.00"), ("19.99", 15, "16.99"), ("7.77", 12, "6.84")])
def test_a_discount_is_in_whole_cents(price: str, percent: int, expected: str) -> None:
    assert discounted(Decimal(price), percent) == Decimal(expected)


def test_nothing_off_is_the_price() -> None:
    assert discounted(Decimal("3.50"), 0) == Decimal("3.50")


def test_all_off_is_free() -> None:
    assert discounted(Decimal("3.50"), 100) == 0
