"""What a build prints, for pictures: groups of three systems, colours, a progress bar, a failure."""

from __future__ import annotations

E = "\x1b["


def building() -> list[str | tuple[str, str]]:
    """A build that is at its tests."""
    packages = ["asgiref 3.13.1", "django 6.1.3", "sqlparse 0.5.4", "uvicorn 0.54.0", "click 8.3.1", "h11 0.16.0"]
    lines: list[str | tuple[str, str]] = [
        f"{E}36m$ {E}0;1mpipeline run{E}0m --commit {E}33m4f2a91c{E}0m",
        "See https://ci.example.com/pipelines/1182 for the whole pipeline.",
        "::group::Check out the sources",
        "Cloning into 'shop'...",
        "remote: Enumerating objects: 1482, done.",
        "Receiving objects:  12%\rReceiving objects:  61%\rReceiving objects: 100% (1482/1482), 2.31 MiB | 9.40 MiB/s, done.",
        "HEAD is now at 4f2a91c Prices are rounded once",
        "::endgroup::",
        "::group::Install the dependencies",
        *(f"  {E}32m+{E}0m {name.split()[0]}{E}2m=={name.split()[1]}{E}0m" for name in packages),
        f"{E}1mInstalled {len(packages)} packages{E}0m in 412ms",
        "::endgroup::",
        "::group::Check the style",
        f"{E}38;2;255;135;0mruff{E}0m  {E}1;32mAll checks passed!{E}0m",
        f"{E}38;5;141mmypy{E}0m  {E}32mSuccess: no issues found in 64 source files{E}0m",
        "::endgroup::",
        "::group::Run the tests",
        f"{E}1m============================= test session starts =============================={E}0m",
        "platform linux -- Python 3.13.0, pytest-8.4.2, pluggy-1.6.0",
        "collected 214 items",
        "",
    ]
    lines += [f"tests/test_{name}.py {E}32m{'.' * dots}{E}0m{E}36m  [{share:3d}%]{E}0m" for name, dots, share in _FILES]
    lines.append(("stderr", "DeprecationWarning: naive datetimes will be refused (cart/models.py:88)"))
    return lines


def many_tests() -> list[str | tuple[str, str]]:
    """A run of many tests, of which one fails in the midst of them."""
    lines: list[str | tuple[str, str]] = [f"{E}36m$ {E}0;1mpytest{E}0m -v --instafail", "::group::Run the tests"]
    lines += [_test(number, "PASSED", 32) for number in range(9_180)]
    failure = [line for line in failing()[2:9] if isinstance(line, str)]
    lines += [f"tests/test_prices.py::test_prices_are_rounded {E}31mFAILED{E}0m{E}36m [ 74%]{E}0m", "", *failure, ""]
    lines += [_test(number, "PASSED", 32) for number in range(9_181, 12_400)]
    lines += ["::endgroup::", f"{E}31m{E}1m1 failed{E}0m, {E}32m12399 passed{E}0m{E}31m in 184.27s (0:03:04){E}0m"]
    return [*lines, ("exit", '{"code": 1, "seconds": 186.2}')]


def _test(number: int, result: str, colour: int) -> str:
    name = _FILES[number % len(_FILES)][0]
    return f"tests/test_{name}.py::test_{name}_{number} {E}{colour}m{result}{E}0m{E}36m [{number * 100 // 12_400:3d}%]{E}0m"


_FILES = (("account", 34, 15), ("cart", 41, 35), ("catalogue", 29, 48), ("checkout", 22, 58), ("delivery", 31, 73))


def failing() -> list[str | tuple[str, str]]:
    """How it goes on to its end."""
    return [
        f"tests/test_prices.py {E}32m........{E}31mF{E}32m...{E}0m{E}36m        [ 78%]{E}0m",
        f"{E}31m=================================== FAILURES ==================================={E}0m",
        f"{E}31;1m___________________________ test_prices_are_rounded ____________________________{E}0m",
        "",
        "    def test_prices_are_rounded():",
        f">       {E}94massert{E}0m price(net=10.005, tax=19) == Decimal({E}33m'11.91'{E}0m)",
        f"{E}31;1mE       AssertionError: assert Decimal('11.90') == Decimal('11.91'){E}0m",
        "",
        f"{E}31mtests/test_prices.py{E}0m:41: AssertionError",
        f"{E}31m{E}1m1 failed{E}0m, {E}32m168 passed{E}0m{E}31m in 18.34s{E}0m",
        "::error file=tests/test_prices.py,line=41::assert Decimal('11.90') == Decimal('11.91')",
        ("exit", '{"code": 1, "seconds": 31.4}'),
    ]
