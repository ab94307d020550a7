"""An office goes by its own words and the root's: where it asks what counts among all words, it says here why it may.

Whoever has a copy of a server's key holds back for a minute what anybody has said, raises and ends rights, and says
first what an honest office would say. `said_here`, `held_without` and `held_by_others` answer without others' words.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import protocol.replica.office

OFFICE = Path(protocol.replica.office.__file__).parent

ASKING = frozenset(
    {"counting_where_they_lie", "grants_not_held_back", "in_force", "is_ours", "is_own", "lets_in", "not_held_back"}
)
"""Functions that answer by what counts, or by which key has signed."""
OF_A_ROSTER = frozenset({"cut", "doubtful", "held_back", "hides", "quarantines", "revocations", "undone", "void"})
"""What a roster says of that."""

ANSWERS = "it is one of the questions: whoever asks it gives the reason"
TELLS = "a human is told, or asked; nothing is said, cut off, given or destroyed by it alone"
REFUSES = "at the worst an order is refused, with the reason"
BESIDE = "what this office has noted, or the root has said, is asked as well, and goes first"
NOW = "it is about what others' words do by now: whom they keep out, what is still to be ended or named"

WHY = {
    ANSWERS: """
        bureau.is_ours held_by_others.grants_not_held_back_by_this_office held_in_space._fell held_in_space.fallen
        held_in_space.grants_not_held_back held_in_space.grants_not_undone held_in_space.held_by_space
        held_in_space.not_held_back
        held_without._said_by_others erasures.in_force list_words.__init__ said_here.is_surely_ours
        said_here.leaves_said_here said_here.said_by_this_key words_of_office.counts words_of_office.in_force
        words_of_office.lets_in
    """,
    TELLS: """
        device_cuts._let_in_elsewhere device_cuts._overcome device_cuts.reports_taken_back doubles.others_called
        erasures.erased_besides erasures.is_in_doubt grants._let_in heard._counts
        held_codes.came_by_reported_codes leaving.hidden_lists losses._hidden_works namesakes.places_in
        not_shown.not_shown not_shown.why_hidden people.listings_of phrases_of_lost._counts
        phrases_of_lost.phrases_of_lost replaced._how sign_ins_of_lost.gone_devices taking_back._of_use
        taking_back._standing taking_back._whose taking_back.ruling_before withdrawals.copies_let_in
        words_of_office.is_out words_of_office.still_says
    """,
    REFUSES: """
        enrolment._check_not_cut enrolment._counts enrolment._granted enrolment._is_void invitations.invite
        known_here.is_from_known_hands needed_rank._ranks_to_cut
    """,
    BESIDE: """
        acquaintance._called_at_the_server acquaintance._own_words device_cuts._counts device_cuts._in_doubt
        device_cuts._orders device_cuts._says_nothing device_cuts.standing_cuts doubles._same_by
        erasures.closed_by_kit erasures.said_already held_codes._held_codes held_codes._led
        held_codes._naming_codes_of known_here._counts_no_more leaving._line leaving._parting
        leaving.last_word measures.quarantine_drafts people.only_names stays_out.cut_off_by
    """,
    NOW: """
        grants._end_of grants._is_cut_off grants._lasting grants._revocations grants._says grants.passed_on_now
        measures.is_in_doubt measures.lift_drafts said_before._following stays.stays_of withdrawals._said_in
    """,
}


class _Asking(ast.NodeVisitor):
    """Collects the functions of a module that ask such a thing."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._within: list[str] = []

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._within.append(node.name)
        self.generic_visit(node)
        self._within.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in OF_A_ROSTER and self._within:
            self.found.add(self._within[-1])
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in ASKING and self._within:
            self.found.add(self._within[-1])


def asked() -> Iterator[str]:
    for file in sorted(OFFICE.glob("*.py")):
        asking = _Asking()
        asking.visit(ast.parse(file.read_text()))
        yield from (f"{file.stem}.{function}" for function in asking.found)


def test_where_an_office_asks_what_counts_among_all_words_it_says_why_it_may() -> None:
    allowed = [name for names in WHY.values() for name in names.split()]
    assert sorted(allowed) == sorted(set(allowed)), "each has one reason"
    assert sorted(asked()) == sorted(allowed)
