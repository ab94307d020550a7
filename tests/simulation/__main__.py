"""Runs seeds, replays one, makes a failing one small.

python -m tests.simulation --seeds 0-1999        many, in one process
python -m tests.simulation --seed 17             one, with its trace
python -m tests.simulation --seed 17 --shrink    the steps that are needed to make it fail
python -m tests.simulation --broken forgets_prev which seed shows that a rule is broken
"""

# ruff: noqa: T201  (a command that tells what it found)

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

from tests.simulation.broken_rules import BROKEN_RULES
from tests.simulation.run import Break, Lived, live, prepare

SEEDS_FOR_A_RULE = 100
SEEDS_AT_ONCE = 50
"""In one process, which collects no garbage: each seed leaves about a megabyte."""
NO_ANSWER = 255


def main() -> int:
    """Exit status 1 if a seed fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", default="0-1999", help="FIRST-LAST")
    parser.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument("--shrink", action="store_true", help="leave out steps as long as it still fails")
    parser.add_argument("--broken", choices=sorted(BROKEN_RULES), help="break a rule on purpose")
    parser.add_argument("--broken-rules", action="store_true", help="break each in turn; is it noticed?")
    parser.add_argument("--digests", action="store_true", help="say the hash of each trace")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first seed that fails")
    given = parser.parse_args()
    gc.disable()  # what a history leaves is given back whole, by the process that lived it
    if given.broken_rules:
        return _all_rules()
    broken = BROKEN_RULES[given.broken].breaks if given.broken else nullcontext
    how = f" --broken {given.broken}" if given.broken else ""
    if given.seed is not None:
        return _one(given.seed, broken, how, shrink=given.shrink)
    first, _, last = given.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    return _many(seeds, broken, how, keep_going=given.keep_going, digests=given.digests)


def _one(seed: int, broken: Break, how: str, *, shrink: bool) -> int:
    lived = live(seed, broken)
    if shrink and lived.problems:
        from tests.simulation.shrink import shrunk  # noqa: PLC0415 — only then

        lived, how = shrunk(lived, broken), f"{how} --shrink"
    _show(lived, how)
    return 1 if lived.problems else 0


def _many(seeds: range, broken: Break, how: str, *, keep_going: bool, digests: bool) -> int:
    began = time.monotonic()
    failed = 0
    prepare()
    for first in range(seeds.start, seeds.stop, SEEDS_AT_ONCE):
        some = range(first, min(first + SEEDS_AT_ONCE, seeds.stop))
        failed += _in_a_process(partial(_some, some, broken, how, keep_going=keep_going, digests=digests))
        if failed and not keep_going:
            return 1
        if keep_going and some.stop // 1_000 > some.start // 1_000:
            print(f"up to seed {some.stop - 1}: {failed} failed", flush=True)
    print(f"{len(seeds)} seeds, {failed} failed, {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


def _some(seeds: range, broken: Break, how: str, *, keep_going: bool, digests: bool) -> int:
    """How many failed."""
    failed = 0
    for seed in seeds:
        lived = live(seed, broken)
        if digests:
            print(f"seed {seed}: {lived.digest}")
        if lived.problems:
            failed += 1
            print(f"seed {seed}: {lived.problems[0]}", flush=True)
            if not keep_going:
                _show(lived, how)
                break
    return failed


def _in_a_process(count: Callable[[], int]) -> int:
    """What `count` gives, in a copy of this process. Raises `SystemExit` when there is no answer."""
    sys.stdout.flush()
    if not (child := os.fork()):
        status = NO_ANSWER
        try:
            status = count()
        except BaseException:  # noqa: BLE001 — the copy ends here, whatever it was
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not 0 <= status <= SEEDS_AT_ONCE:
        raise SystemExit(f"a process that lived histories ended with {status}")
    return status


def _all_rules() -> int:
    """Say of each rule whether breaking it is noticed, by the seed that is known to show it or one soon after it."""
    unnoticed = 0
    for name, rule in BROKEN_RULES.items():
        lives = (live(seed, rule.breaks) for seed in range(rule.shown_by, rule.shown_by + SEEDS_FOR_A_RULE))
        noticed = next((lived for lived in lives if lived.problems), None)
        unnoticed += noticed is None
        print(f"{name}: {f'seed {noticed.plan.seed}: {noticed.problems[0]}' if noticed else 'UNNOTICED'}", flush=True)
    return 1 if unnoticed else 0


def _show(lived: Lived, how: str) -> None:
    """The trace, what does not hold, and the command that shows the same again."""
    for line in lived.trace:
        print(line)
    print(f"seed {lived.plan.seed}, trace {lived.digest}, {len(lived.plan.steps)} steps, {lived.rounds} rounds to heal")
    for problem in lived.problems:
        print(f"BROKEN: {problem}")
    print(f"again: python -m tests.simulation --seed {lived.plan.seed}{how}")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # sets are walked in another order in every process: replay needs always the same
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})  # noqa: S606 — itself
    sys.exit(main())
