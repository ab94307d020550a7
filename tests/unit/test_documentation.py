"""The spec is a product: what it says follows from the code, and what the code cites exists."""

from __future__ import annotations

import functools
import re
from pathlib import Path

from tests.harness.spec_tables import PAGE, with_tables

ROOT = Path(__file__).parents[2]
ATTACKS = ROOT / "docs" / "attacks.md"
TO_SIGN = ROOT / "docs" / "threat-model.md"
CHAPTERS = "Confirmed devices|Reading keys|Sealed hand-ins"
MAX_BYTES_TO_SIGN = 45 * 1024
MAX_WORDS_OF_A_DEFENCE = 40
MAX_WORDS_OF_A_POINT = 60


def test_tables_and_worked_exchange_of_the_spec_are_what_the_code_does() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page, "run: python -m tests.harness.spec_tables"


def test_every_section_that_a_module_cites_exists() -> None:
    titles = set(re.findall(r"^#{2,3} (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    for room in ("protocol", "sync_agent", "sync_server"):
        for module in (ROOT / room).rglob("*.py"):
            text = re.sub(r"\s+", " ", module.read_text(encoding="utf-8"))
            for cited in re.findall(r'docs/protocol\.md, ((?:"[^"]+"(?:, | and )?)+)', text):
                assert set(re.findall(r'"([^"]+)"', cited)) <= titles, (module.name, cited)


def test_rules_of_the_spec_are_numbered_in_order_and_whoever_cites_one_cites_one_that_there_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    rules = re.findall(r"^- \*\*([CKW])(\d+)\.\*\*", page, re.MULTILINE)
    for chapter in "CKW":
        numbers = [int(number) for letter, number in rules if letter == chapter]
        assert numbers == list(range(1, len(numbers) + 1)), chapter
    there = {letter + number for letter, number in rules}
    assert set(re.findall(r"\b[CKW]\d+\b", page)) <= there
    for room in ("protocol", "sync_agent", "sync_server"):
        for module in (ROOT / room).rglob("*.py"):
            text = module.read_text(encoding="utf-8")
            for cited in re.findall(rf'"(?:{CHAPTERS})", ((?:[CKW]\d+(?: to | and |, )?)+)', text):
                assert set(re.findall(r"[CKW]\d+", cited)) <= there, (module.name, cited)


@functools.cache
def anchors_of(page: Path) -> set[str]:
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r'<a id="(\w+)">', text))


def test_every_link_between_sections_and_files_leads_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        if page.name == "template.md":
            continue
        for target in re.findall(r"\]\(([^)#\s]*(?:#[^)\s]*)?)\)", page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            if path.startswith(("http:", "https:", "mailto:")):
                continue
            led_to = page.parent / path if path else page
            assert led_to.exists(), (page.name, target)
            if anchor and led_to.suffix == ".md":
                assert anchor in anchors_of(led_to.resolve()), (page.name, target)


def test_every_decision_stands_once_in_the_list_of_them_and_in_order() -> None:
    decisions = ROOT / "docs" / "adr"
    listed = re.findall(r"^\| \[(\d{4})\]\((\1-[^)]+)\)", (decisions / "README.md").read_text(), re.MULTILINE)
    assert [name for _, name in listed] == sorted(file.name for file in decisions.glob("[0-9]*.md"))


def test_every_attack_of_the_page_has_its_test_and_every_test_its_row() -> None:
    page = ATTACKS.read_text(encoding="utf-8")
    told: dict[str, str] = {}
    rows: list[str] = []
    for line in page.splitlines():
        if line.startswith("| ") and "`test_" in line:
            attack = line.strip("|").split("|")[0].strip()
            rows.append(attack)
            told |= dict.fromkeys(re.findall(r"`(test_\w+)`", line), attack)
    found: set[str] = set()
    for module in (ROOT / "tests" / "attacks").glob("test_*.py"):
        text = module.read_text(encoding="utf-8")
        found |= set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))
        for row, name in re.findall(r'^@attack\(\s*"([^"]+)".*?^async def (test_\w+)', text, re.MULTILINE | re.DOTALL):
            assert told.get(name) == row, (module.name, name)
    assert found == set(told)
    assert len(rows) == len(set(rows)), "an attack stands in the table once"


def test_every_point_of_what_is_not_promised_is_on_the_page_that_is_signed() -> None:
    page = TO_SIGN.read_text(encoding="utf-8")
    numbers = re.findall(r'<a id="(n\w+)">', ATTACKS.read_text(encoding="utf-8"))
    assert numbers
    assert len(numbers) == len(set(numbers)), "a number is one point's"
    assert [number for number in numbers if f"](attacks.md#{number})" not in page] == []


def test_the_page_that_is_signed_is_short_enough_to_be_read_and_names_tests_that_there_are() -> None:
    page = TO_SIGN.read_text(encoding="utf-8")
    assert len(page.encode()) <= MAX_BYTES_TO_SIGN
    modules = [module.read_text(encoding="utf-8") for module in (ROOT / "tests").rglob("test_*.py")]
    tests = {name for text in modules for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)}
    for line in page.splitlines():
        if line.startswith("| ["):
            attack, defence, shown_by = line.strip("|").split("|")
            named = re.findall(r"`(test_\w+)`", shown_by)
            assert named, attack
            assert set(named) <= tests, attack
            assert len(defence.split()) <= MAX_WORDS_OF_A_DEFENCE, attack
    for point in re.findall(r"^- (.*)$", page, re.MULTILINE):
        words = re.sub(r"\[[^\]]*\]\(attacks\.md[^)]*\)", "", point).split()
        assert len(words) <= MAX_WORDS_OF_A_POINT, point
