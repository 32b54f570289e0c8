from decimal import Decimal

from shop import Cart


def test_an_empty_cart_costs_nothing() -> None:
    assert Cart().total == 0


def test_things_add_up() -> None:
    cart = Cart()
    cart.add("pen", Decimal("1.20"), 3)
    cart.add("paper", Decimal("4.00"))
    assert cart.total == Decimal("7.60")


def test_the_same_thing_twice_is_two() -> None:
    cart = Cart()
    cart.add("pen", Decimal("1.20"))
    cart.add("pen", Decimal("1.20"))
    assert cart.total == Decimal("2.40")


def test_removing_what_is_not_there_changes_nothing() -> None:
    cart = Cart()
    cart.add("pen", Decimal("1.20"))
    cart.remove("paper")
    assert cart.total == Decimal("1.20")
