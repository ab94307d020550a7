"""Every rule that is broken on purpose, and the first seed that shows it.

`python -m tests.simulation --broken NAME` finds that seed when what seeds mean has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from tests.simulation import (
    claims_mutations,
    class_mutations,
    crisis_mutations,
    freezing,
    mutations,
    trust_mutations,
)


@dataclass(frozen=True)
class BrokenRule:
    """A rule, and the first seed that shows that it is broken."""

    breaks: Callable[[], AbstractContextManager[object]]
    shown_by: int


BROKEN_RULES: Final = {
    rule.breaks.__name__: rule
    for rule in (
        BrokenRule(mutations.forgets_prev, 1),
        BrokenRule(mutations.counts_what_was_tried_as_sent, 28),
        BrokenRule(mutations.folds_by_arrival, 15),
        BrokenRule(mutations.believes_the_manifest, 32),
        BrokenRule(mutations.never_reconciles, 4),
        BrokenRule(mutations.takes_waiting_for_taken, 4),
        BrokenRule(mutations.signs_receipts_unseen, 10),
        BrokenRule(mutations.names_packs_for_chunks_only, 275),
        BrokenRule(mutations.acknowledges_before_the_flush, 3),
        BrokenRule(mutations.lets_everybody_read, 0),
        BrokenRule(mutations.signs_for_copies_unseen, 308),
        BrokenRule(mutations.exchanges_no_content_with_neighbours, 57),
        BrokenRule(mutations.shows_neighbours_everything, 57),
        BrokenRule(mutations.takes_what_a_stick_brought_as_sent, 11970),
        BrokenRule(mutations.destroys_nothing, 1),
        BrokenRule(mutations.destroys_too_early, 1),
        BrokenRule(trust_mutations.believes_what_a_thief_brought, 11),
        BrokenRule(trust_mutations.forgets_whom_a_thief_let_in, 4533),
        BrokenRule(trust_mutations.tells_of_nobody_who_came_by_a_reported_code, 3655069),
        BrokenRule(trust_mutations.copies_outlive_their_original, 4727),
        BrokenRule(trust_mutations.tells_of_no_copies, 3406560),
        BrokenRule(trust_mutations.destroys_by_a_thiefs_word, 2392),
        BrokenRule(trust_mutations.takes_no_erasure_back, 41),
        BrokenRule(trust_mutations.brings_back_what_it_destroyed, 3338),
        BrokenRule(trust_mutations.asks_for_the_first_page_only, 1042),
        BrokenRule(trust_mutations.shows_neighbours_no_new_rights, 451),
        BrokenRule(trust_mutations.keeps_to_itself_whom_it_let_in, 3),
        BrokenRule(trust_mutations.lets_substitutes_stay, 87),
        BrokenRule(trust_mutations.takes_the_servers_word_for_a_teacher, 0),
        BrokenRule(trust_mutations.hears_unconfirmed_devices, 456),
        BrokenRule(trust_mutations.gives_confirmed_devices_nothing, 47),
        BrokenRule(trust_mutations.believes_every_receipt, 67),
        BrokenRule(trust_mutations.gives_sign_in_keys_to_everybody, 55),
        BrokenRule(trust_mutations.gives_sign_in_keys_to_nobody_later, 398),
        BrokenRule(trust_mutations.keeps_locks_to_itself, 4375),
        BrokenRule(trust_mutations.carries_any_number, 161),
        BrokenRule(trust_mutations.carries_noise, 17),
        BrokenRule(trust_mutations.keeps_what_nothing_names, 38),
        BrokenRule(crisis_mutations.keeps_what_neighbours_brought, 23),
        BrokenRule(crisis_mutations.leaves_halves_on_sticks, 18),
        BrokenRule(crisis_mutations.hears_no_quarantine, 10),
        BrokenRule(crisis_mutations.rehearses_nothing, 5),
        BrokenRule(crisis_mutations.asks_for_no_payloads, 41),
        BrokenRule(crisis_mutations.closes_no_class, 713),
        BrokenRule(crisis_mutations.folds_do_not_grow, 1),
        BrokenRule(crisis_mutations.cuts_no_former_server_off, 195),
        BrokenRule(crisis_mutations.counts_servers_unheard_of, 145),
        BrokenRule(crisis_mutations.counts_the_earlier_rotation_alone, 215),
        BrokenRule(crisis_mutations.stays_by_what_led_to_a_rotation, 137),
        BrokenRule(crisis_mutations.names_nothing_absent, 145),
        BrokenRule(crisis_mutations.follows_no_new_root, 137),
        BrokenRule(crisis_mutations.lets_everybody_back, 276),
        BrokenRule(crisis_mutations.believes_every_refusal, 218),
        BrokenRule(crisis_mutations.hears_nobody_in_doubt, 702533),
        BrokenRule(crisis_mutations.names_the_last_words_only, 1301012),
        BrokenRule(crisis_mutations.forgets_what_was_closed, 140),
        BrokenRule(crisis_mutations.speaks_to_relays_only, 944),
        BrokenRule(crisis_mutations.leaves_work_to_the_relay, 5871),
        BrokenRule(crisis_mutations.lets_everything_make_way, 70),
        BrokenRule(crisis_mutations.notes_nothing_from_elsewhere, 38),
        BrokenRule(crisis_mutations.takes_its_own_words_for_anothers, 1),
        BrokenRule(claims_mutations.believes_lists_of_who_is_who, 150),
        BrokenRule(claims_mutations.lists_computers_by_the_list, 270),
        BrokenRule(claims_mutations.gives_drafts_by_the_list, 270),
        BrokenRule(claims_mutations.takes_along_what_was_reported, 285),
        BrokenRule(claims_mutations.forgets_reports_in_doubt, 775),
        BrokenRule(claims_mutations.tells_no_report_that_was_taken_back, 1),
        BrokenRule(claims_mutations.tells_nothing_of_other_classes, 285),
        BrokenRule(claims_mutations.lets_in_unsaid_what_was_reported, 3402846),
        BrokenRule(claims_mutations.lets_in_as_was_said_last, 94),
        BrokenRule(claims_mutations.repeats_the_highest_role, 1507),
        BrokenRule(claims_mutations.gives_what_came_first, 178),
        BrokenRule(claims_mutations.says_nothing_that_was_said, 94),
        BrokenRule(claims_mutations.keeps_to_its_first_word, 4236),
        BrokenRule(claims_mutations.frees_what_the_kit_holds, 312),
        BrokenRule(class_mutations.seals_keys_in_every_class, 594),
        BrokenRule(class_mutations.goes_on_with_keys_of_the_lost, 587),
        BrokenRule(class_mutations.believes_every_signature, 594),
        BrokenRule(class_mutations.lets_a_right_hold_everywhere, 594),
        BrokenRule(class_mutations.takes_what_it_did_not_ask_for, 72),
        BrokenRule(class_mutations.takes_all_that_neighbours_push, 72),
        BrokenRule(class_mutations.takes_any_class_from_a_bundle, 594),
        BrokenRule(class_mutations.takes_the_place_of_what_is_shown_alone, 122),
        BrokenRule(freezing.counts_the_frozen_as_settled, 3538),
    )
}
