"""What a test replaces by its dotted name is there: whoever moves it learns so here, not when all tests run."""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PROGRAMS = ("protocol.", "sync_agent.", "sync_server.")


def named_in(call: ast.Call) -> Iterator[object]:
    """The dotted names in `setattr("…", …)`, `patch("…", …)` and `attack(…, off={"…": …})`."""
    by_name = {word.arg: word.value for word in call.keywords}
    if isinstance(off := by_name.get("off"), ast.Dict):
        yield from (key.value for key in off.keys if isinstance(key, ast.Constant))
    is_replacing = isinstance(call.func, ast.Attribute) and call.func.attr in ("setattr", "patch")
    if is_replacing and "raising" not in by_name and call.args and isinstance(call.args[0], ast.Constant):
        yield call.args[0].value


def replaced_names() -> Iterator[tuple[str, str]]:
    for file in sorted(TESTS.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call):
                for name in named_in(call):
                    if isinstance(name, str) and name.startswith(PROGRAMS):
                        yield file.relative_to(TESTS).as_posix(), name


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (AttributeError, ImportError):
        return False
    return True


def test_what_a_test_replaces_is_there() -> None:
    found = list(replaced_names())
    assert len(found) > len(PROGRAMS)
    assert [pair for pair in found if not is_there(pair[1])] == []
