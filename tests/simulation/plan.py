"""What a seed decides beforehand: the machines, the weather, the bounds, and a list of steps.

A step holds all the chance that it needs, so that steps may be left out (`shrink`) without changing what the others
mean: which item a teacher revises is drawn from those that are there when the step is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.simulation.lines import CALM, Weather

MACHINES_TO_CHOOSE_FROM: Final = 12
HEAD: Final = 11
TEACHERS: Final = (4, 6)
MOST_MACHINES: Final = 8
STEPS: Final = (8, 36)
LONGEST_PAUSE_S: Final = 400.0

# step → how often, beside the others
ON_A_MACHINE: Final[Mapping[str, int]] = {
    "publish": 10,
    "revise": 10,
    "switch": 3,
    "settle": 2,
    "hand in": 12,
    "open": 5,
    "feedback": 4,
    "sync": 24,
    "look": 5,
    "unplug": 3,
    "plug": 4,
    "power cut": 4,
    "power cut soon": 5,
    "power cut in sync": 6,
    "boot": 7,
    "image": 3,
    "forget": 3,
    "clone": 1,
    "clock": 3,
    "meet": 5,
    "link": 2,
    "export": 3,
    "import": 4,
    "tear stick": 2,
    "copy stick": 1,
    "days": 1,
    "conflict": 2,
    "steal": 1,
    "thief": 3,
    "confirm": 2,
    "succeed": 1,
    "lie": 1,
    "sign-in set": 1,
    "sign-in unlock": 1,
    "sign in": 1,
    "overrun": 1,
}
AT_THE_HEADS: Final[Mapping[str, int]] = {
    "head: class": 1,
    "head: pupil": 2,
    "head: merge": 1,
    "head: let in": 2,
    "head: grant": 2,
    "head: cut": 1,
    "head: erase": 1,
}
AT_THE_SERVER: Final[Mapping[str, int]] = {
    "add person": 3,
    "server power cut": 2,
    "server power cut soon": 4,
    "server boot": 5,
    "backup": 3,
    "restore": 2,
    "rebirth": 1,
    "let go": 1,
    "let back": 1,
    "erase": 2,
    "unerase": 2,
    "report": 2,
    "rule": 2,
    "impostor": 1,
    "confirm clone": 1,
    "storm": 4,
    "calm": 4,
}

# what a history is about: these steps come several times as often
THEMES: Final = (
    (),
    ("publish", "revise", "switch", "sync", "look"),
    ("revise", "conflict", "settle", "meet", "clone", "forget"),
    ("hand in", "open", "feedback", "sync"),
    ("power cut soon", "power cut in sync", "boot", "publish", "server power cut soon", "server boot", "hand in"),
    ("backup", "restore", "rebirth", "hand in", "publish"),
    ("image", "forget", "clone", "clock", "meet"),
    ("meet", "link", "hand in", "publish", "unplug", "look"),
    ("export", "import", "tear stick", "copy stick", "hand in", "publish", "unplug"),
    ("erase", "unerase", "days", "export", "import", "restore", "forget", "hand in", "boot"),
    ("confirm", "impostor", "hand in", "open", "feedback", "sync"),
    ("clone", "succeed", "confirm clone", "let go", "hand in", "boot"),
    ("sign-in set", "sign-in unlock", "sign in", "sync", "meet"),
    ("lie", "overrun", "meet", "link", "hand in", "unplug", "export", "import"),
    tuple(AT_THE_HEADS),
    ("steal", "thief", "report", "rule", "unerase", "days"),
)
_WITH_A_HEAD: Final = THEMES[-2:]
_EMPHASIS: Final = 4

# what some histories are told beside everything else: these steps, in this order, among the others
STORIES: Final = (
    ("hand in", "home"),
    ("hand in", "publish", "home", "open", "home"),
    ("export", "full stick", "import"),
    ("full stick", "hand in", "full stick", "import"),
    ("quarantine", "sync", "meet", "export", "import", "lift", "sync", "meet"),
    ("quarantine", "meet", "meet", "link", "import", "sync", "meet"),
    ("drill", "sync", "hand in", "sync", "meet", "sync"),
    ("drill", "sync", "publish", "home", "power cut", "sync", "boot"),
    ("power cut", "erase", "kit: unerase", "boot"),
    ("unplug", "erase", "sync", "kit: unerase", "erase"),
    ("kit: close", "sync", "days", "sync", "export", "import"),
    ("export", "power cut", "kit: close", "days", "import", "restore"),
)
TOLD: Final = 0.3
_STORY_STEPS: Final = 500
"""The numbers of their steps begin here: other histories keep theirs."""

# … and some of these: keys are replaced, a server is made anew, while people are forgotten and machines let go
OF_KEYS: Final = (
    ("rotate server", "sync", "old server", "meet", "sync"),
    ("server power cut soon", "rotate server", "server boot", "sync", "old server", "sync"),
    ("server power cut soon", "rotate root", "server boot", "sync", "rotate root"),
    ("rotate root", "sync", "hand in", "rebirth", "sync", "old server"),
    ("backup", "rotate server", "rotate root", "sync", "kit: restore", "sync"),
    ("backup", "let go", "erase", "sync", "sync", "kit: restore", "sync", "days"),
    ("erase", "let go", "sync", "sync", "rebirth", "sync", "days"),
    ("backup", "hand in", "let go", "erase", "sync", "sync", "rebirth", "sync", "kit: restore", "sync", "unerase"),
    ("unplug", "rotate server", "rotate root", "old server", "meet", "plug", "sync"),
)
TOLD_OF_KEYS: Final = 0.1
_STORY_OF_KEYS_STEPS: Final = 600

# … and some of full disks
OF_FULL_DISKS: Final = (
    ("hand in", "disk fills", "sync", "open", "disk fills", "look", "disk empties", "sync"),
    ("disk fills", "publish", "meet", "revise", "sync", "disk fills", "switch", "sync"),
    ("backup", "disk fills", "sync", "restore", "sync", "disk fills", "hand in", "sync"),
    ("disk fills", "power cut in sync", "boot", "sync", "disk fills", "power cut in sync", "boot", "disk empties"),
)
TOLD_OF_FULL_DISKS: Final = 0.06
_STORY_OF_FULL_DISKS_STEPS: Final = 700

# … and some of who says whose a device is: people, and whoever has the server's key; in these the school has its head,
# and a teacher two laptops
OF_CLAIMS: Final = (
    ("false grant", "all sync", "head: grant device", "all sync", "head: grant device"),
    ("false grant", "false grant", "all sync", "head: grant device", "head: grant person", "server: grant person"),
    ("stranger", "all sync", "false same", "all sync", "stranger's word", "all sync"),
    ("stranger", "all sync", "stranger's word", "all sync", "false same", "hand in", "feedback", "all sync"),
    ("added twice", "all sync", "same teacher", "all sync", "confirm", "hand in", "all sync", "confirm", "all sync"),
    ("added twice", "all sync", "confirm", "same teacher", "head: report", "all sync", "hand in", "all sync"),
    ("head: report", "all sync", "list leaves", "all sync", "head: grant person", "all sync", "server: grant person"),
    ("second head", "all sync", "head: report", "all sync", "take back", "all sync", "head: grant person", "sync"),
    ("second head", "head: report", "take back", "all sync", "head: grant person", "hand in", "all sync"),
    ("false report", "all sync", "head: grant person", "hand in", "head: grant device", "all sync"),
    ("head: let in", "head: let in", "false grant", "false grant", "all sync", "head: grant device", "all sync"),
    ("steal", "thief", "hand in", "kit: report", "all sync", "rule", "rule", "kit: accept", "rule", "all sync"),
    ("steal", "thief", "thief", "report", "all sync", "kit: accept", "rule", "kit: refuse", "all sync", "kit: accept"),
)
TOLD_OF_CLAIMS: Final = 0.08
_STORY_OF_CLAIMS_STEPS: Final = 800
_PETIT_2: Final = 6

# … and some of one teacher's three laptops in two classes, and of entries that are said again where they do not belong
OF_CLASSES: Final = (
    ("three laptops", "all sync", "hers confirm", "all sync", "head: report", "all sync", "hand in", "all sync"),
    ("three laptops", "all sync", "hers confirm", "all sync", "head: report", "all sync", "say again", "all sync"),
    ("three laptops", "all sync", "hers confirm", "all sync", "hers confirm", "head: report", "say again", "hand in"),
    ("three laptops", "all sync", "hers confirm", "head: report", "all sync", "list leaves", "all sync", "say again"),
    ("three laptops", "all sync", "hers confirm", "all sync", "steal", "say again", "report", "all sync", "say again"),
    ("hand in", "say again", "all sync", "meet", "import", "say again", "all sync", "import", "meet"),
    ("hand in", "publish", "export", "say again", "import", "all sync", "say again", "link", "import"),
)
TOLD_OF_CLASSES: Final = 0.05
_STORY_OF_CLASSES_STEPS: Final = 900

# … and some of somebody who is frozen for a while
OF_FREEZING: Final = (
    ("freeze", "hand in", "all sync", "hand in", "unfreeze", "all sync"),
    ("hand in", "freeze", "all sync", "days", "unfreeze", "open", "feedback", "all sync"),
    ("hand in", "freeze", "backup", "sync", "unfreeze", "sync", "restore", "sync", "unfreeze"),
    ("freeze", "erase", "head: erase", "sync", "unfreeze", "erase", "days", "unerase"),
    ("hand in", "export", "freeze", "import", "meet", "hand in", "export", "unfreeze", "import"),
    ("hand in", "disk fills", "freeze", "all sync", "disk empties", "unfreeze", "hand in", "all sync"),
)
TOLD_OF_FREEZING: Final = 0.05
_STORY_OF_FREEZING_STEPS: Final = 1_000

# … and some of words that are hidden for a while, while more is said of the same thing
OF_WORDS: Final = (
    ("hand in", "all sync", "hers says", "hers says", "all sync", "hide", "all sync", "hers says", "all sync"),
    (
        "hand in",
        "all sync",
        "hers says",
        "all sync",
        "hers says",
        "all sync",
        "hide",
        "all sync",
        "hers says",
        "hers says",
    ),
    ("hand in", "three laptops", "all sync", "hers confirm", "hers says", "all sync", "hide", "all sync", "hers says"),
)
TOLD_OF_WORDS: Final = 0.04
_STORY_OF_WORDS_STEPS: Final = 1_100

# a few histories are those of a whole school behind one relay
CROWDED: Final = 0.001
CROWD: Final = 28
_TEACHER_AND_RELAY: Final = (0, 3)
_BY_TEACHERS: Final = frozenset({"publish", "revise"})
_OF_A_CROWD: Final = (
    *("publish", "publish", "relay: gather", "hand in", "hand in", "hand in", "hand in", "hand in", "relay: gather"),
    *("hand in", "relay: dies", "meet", "hand in", "meet", "revise", "meet", "link", "meet", "meet"),
)


@dataclass(frozen=True)
class Step:
    """Something happens `after_s` after the step before it. `actor` numbers a machine, `chance` seeds the rest."""

    number: int
    after_s: float
    what: str
    actor: int
    chance: int


@dataclass(frozen=True)
class Plan:
    """A history before it is lived. `machines` are numbers of the founding's; `settled` if
    all of them have synced before it begins. `isolated`: in the end they first agree without the server. `frozen` is
    the place among them of one that forgets at every start."""

    seed: int
    machines: tuple[int, ...]
    settled: bool
    daemons: bool
    small_bounds: bool
    isolated: bool
    frozen: int | None
    weather: Weather
    steps: tuple[Step, ...]
    crowd: bool = False
    """Whether there are many more machines to choose from."""


def plan_of(seed: int) -> Plan:
    """The history of a seed."""
    random = Random(f"crowd {seed}")
    if random.random() < CROWDED:
        return _crowded(seed, random)
    random = Random(f"plan {seed}")
    count = min(random.randrange(2, MOST_MACHINES + 1), random.randrange(2, MOST_MACHINES + 1))
    second_teacher = [random.choice(TEACHERS)] if count > 2 and random.random() < 0.6 else []
    left = [number for number in range(2, MACHINES_TO_CHOOSE_FROM) if number not in second_teacher]
    others = [*second_teacher, *random.sample(left, count - 2 - len(second_teacher))]
    steps = []
    theme = random.choice(THEMES)
    if HEAD not in others and others and random.random() < (0.9 if theme in _WITH_A_HEAD else 0.2):
        others[-1] = HEAD
    kinds = {**ON_A_MACHINE, **AT_THE_SERVER, **(AT_THE_HEADS if HEAD in others else {})}
    weights = [weight * (_EMPHASIS if name in theme else 1) for name, weight in kinds.items()]
    for number in range(random.randrange(*STEPS)):
        what = random.choices(list(kinds), weights)[0]
        after_s = 0.0 if random.random() < 0.4 else random.random() ** 3 * LONGEST_PAUSE_S
        steps.append(Step(number, after_s, what, random.randrange(count), random.randrange(2**32)))
    return Plan(
        seed=seed,
        machines=(0, 1, *sorted(others), *_joining(seed, others)),
        settled=random.random() < 0.8,
        daemons=random.random() < 0.2,
        small_bounds=random.random() < 0.5,
        isolated=random.random() < 0.1,
        frozen=random.randrange(1, count) if random.random() < 0.15 else None,
        weather=_weather(random),
        steps=tuple(_with_stories(seed, steps, count)),
    )


def _crowded(seed: int, random: Random) -> Plan:
    """A teacher, a relay and a crowd of machines. In the end they agree without server, and the relay is another."""
    machines = (*_TEACHER_AND_RELAY, *range(MACHINES_TO_CHOOSE_FROM, MACHINES_TO_CHOOSE_FROM + CROWD))
    steps = []
    for number, what in enumerate(_OF_A_CROWD):
        actor = 0 if what in _BY_TEACHERS else random.randrange(len(_TEACHER_AND_RELAY), len(machines))
        steps.append(Step(number, random.random() * LONGEST_PAUSE_S, what, actor, random.randrange(2**32)))
    return Plan(
        seed=seed,
        machines=machines,
        settled=True,
        daemons=False,
        small_bounds=random.random() < 0.5,
        isolated=True,
        frozen=None,
        weather=_weather(random),
        steps=tuple(steps),
        crowd=True,
    )


def _with_stories(seed: int, steps: Sequence[Step], count: int) -> list[Step]:
    """The steps, and those of stories among them. Drawn apart, so that the history is what it would be without."""
    random = Random(f"story {seed}")
    told = list(steps)
    if random.random() < TOLD:
        told = _with_story(random, told, random.choice(STORIES), count, _STORY_STEPS)
    random = Random(f"story of keys {seed}")
    if random.random() < TOLD_OF_KEYS:
        told = _with_story(random, told, random.choice(OF_KEYS), count, _STORY_OF_KEYS_STEPS)
    random = Random(f"story of full disks {seed}")
    if random.random() < TOLD_OF_FULL_DISKS:
        told = _with_story(random, told, random.choice(OF_FULL_DISKS), count, _STORY_OF_FULL_DISKS_STEPS)
    random = Random(f"story of grants {seed}")
    if random.random() < TOLD_OF_CLAIMS:
        told = _with_story(random, told, random.choice(OF_CLAIMS), count, _STORY_OF_CLAIMS_STEPS)
    random = Random(f"story of classes {seed}")
    if random.random() < TOLD_OF_CLASSES:
        told = _with_story(random, told, random.choice(OF_CLASSES), count, _STORY_OF_CLASSES_STEPS)
    random = Random(f"story of freezing {seed}")
    if random.random() < TOLD_OF_FREEZING:
        told = _with_story(random, told, random.choice(OF_FREEZING), count, _STORY_OF_FREEZING_STEPS)
    random = Random(f"story of words {seed}")
    if random.random() < TOLD_OF_WORDS:
        story = (*random.choice(OF_WORDS), "let words go", "all sync")
        told = _with_story(random, told, story, count, _STORY_OF_WORDS_STEPS)
    return told


def _joining(seed: int, others: Sequence[int]) -> list[int]:
    """The machines that some stories need besides: after all others, so that steps go on meaning the same."""
    of_grants = Random(f"story of grants {seed}").random() < TOLD_OF_CLAIMS
    of_classes = Random(f"story of classes {seed}").random() < TOLD_OF_CLASSES
    needed = ((_PETIT_2, of_grants), (HEAD, of_grants or of_classes))
    return [number for number, is_needed in needed if is_needed and number not in others]


def _with_story(random: Random, steps: Sequence[Step], story: Sequence[str], count: int, first: int) -> list[Step]:
    told = list(steps)
    for order, place in enumerate(sorted(random.randrange(len(steps) + 1) for _ in story)):
        after_s = random.choice((0.0, 2.0, random.random() * LONGEST_PAUSE_S))
        step = Step(first + order, after_s, story[order], random.randrange(count), random.randrange(2**32))
        told.insert(place + order, step)
    return told


def _weather(random: Random) -> Weather:
    if random.random() < 0.2:
        return CALM

    def some(most: float) -> float:
        return random.choice((0.0, random.random() * most))

    return Weather(
        lost=some(0.3),
        unanswered=some(0.3),
        doubled=some(0.3),
        cut=some(0.7),
        spoiled=some(0.05) if random.random() < 0.3 else 0.0,
        slowest_s=random.choice((0.02, 0.6, 5.0)),
    )
