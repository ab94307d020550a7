from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.clock import at_from
from protocol.errors import BadInput, Code
from protocol.identity import AgreementKey, SigningKey, territory_id
from protocol.limits import MAX_KIT_BYTES, MAX_KIT_LANES, MAX_KIT_MEMORY_KIB, MAX_KIT_PASSES, MAX_ROTATION_HEADS
from protocol.messages.enrollment import encode_chain
from protocol.model.entry import Kind, compose
from protocol.rights.root_rotation import RootRotation
from protocol.trust import kit
from protocol.trust.invitation import territory_fingerprint
from protocol.trust.kit import Argon2Cost, Kit, is_protected, parse_kit, write_kit

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "kit.json").read_text(encoding="utf-8"))
CHEAP = Argon2Cost(memory_kib=64, passes=1, lanes=1)
KIT = Kit("Territoire du Cher", SigningKey(bytes([1]) * 32), AgreementKey(bytes([2]) * 32))
SALT = bytes(range(16))


def seeds(found: Kit) -> tuple[str, bytes, bytes]:
    return found.name, found.root.seed, found.recovery.seed


def problem(text: str, passphrase: str | None = None) -> object:
    with pytest.raises(BadInput) as caught:
        parse_kit(text, passphrase=passphrase)
    assert caught.value.code is Code.BAD_KIT
    assert caught.value.exit_status == 2
    return caught.value.facts.get("line", caught.value.facts["problem"])


def block_lines(text: str) -> list[str]:
    lines = text.splitlines()
    return lines[lines.index("--- RELAIS ---") + 1 : lines.index("--- FIN ---")]


def test_kits_are_those_of_the_vectors() -> None:
    root, recovery = bytes.fromhex(VECTORS["root_seed"]), bytes.fromhex(VECTORS["recovery_seed"])
    known_kit = Kit(VECTORS["territory_name"], SigningKey(root), AgreementKey(recovery))
    assert write_kit(known_kit, passphrase=None, salt=SALT) == VECTORS["open"]
    known = VECTORS["protected"]
    cost = Argon2Cost(known["memory_kib"], known["passes"], known["lanes"])
    text = write_kit(known_kit, passphrase=known["passphrase"], salt=bytes.fromhex(known["salt"]), cost=cost)
    assert text == known["text"]
    assert seeds(parse_kit(text, passphrase=known["passphrase"])) == seeds(known_kit)
    assert seeds(parse_kit(VECTORS["open"])) == seeds(known_kit)


def test_a_kit_of_a_later_root_is_that_of_the_vectors() -> None:
    known = VECTORS["later"]
    later = Kit(
        VECTORS["territory_name"],
        SigningKey(bytes.fromhex(known["root_seed"])),
        AgreementKey(bytes.fromhex(known["recovery_seed"])),
        bytes.fromhex(known["chain"]),
        bytes.fromhex(known["first_root"]),
        tuple(AgreementKey(bytes.fromhex(seed)) for seed in known["earlier_seeds"]),
    )
    assert write_kit(later, passphrase=None, salt=SALT) == known["open"]
    read = parse_kit(known["open"])
    assert (seeds(read), read.chain, read.first_root) == (seeds(later), later.chain, later.first_root)
    assert [key.seed.hex() for key in read.earlier] == known["earlier_seeds"]
    text = write_kit(later, passphrase="phrase", salt=SALT, cost=CHEAP)
    assert is_protected(text)
    assert [key.seed for key in parse_kit(text, passphrase="phrase").opening] == [key.seed for key in later.opening]


def test_a_kit_says_whether_it_is_protected() -> None:
    assert not is_protected(write_kit(KIT, passphrase=None, salt=SALT))
    assert is_protected(write_kit(KIT, passphrase="phrase", salt=SALT, cost=CHEAP))


def test_a_protected_kit_shows_no_seed() -> None:
    bare = "".join(block_lines(write_kit(KIT, passphrase=None, salt=SALT)))
    protected = "".join(block_lines(write_kit(KIT, passphrase="phrase", salt=SALT, cost=CHEAP)))
    assert bare[10:40] not in protected


def test_the_default_protection_is_the_one_that_rfc_9106_recommends() -> None:
    assert (Argon2Cost().memory_kib, Argon2Cost().passes, Argon2Cost().lanes) == (65_536, 3, 4)
    text = write_kit(KIT, passphrase="phrase", salt=SALT)
    assert seeds(parse_kit(text, passphrase="phrase")) == seeds(KIT)


def test_a_missing_passphrase_and_a_wrong_one_are_told_apart() -> None:
    text = write_kit(KIT, passphrase="phrase", salt=SALT, cost=CHEAP)
    assert problem(text) == "passphrase-missing"
    assert problem(text, "Phrase") == "passphrase-wrong"


def test_a_passphrase_means_the_same_however_its_accents_are_stored() -> None:
    text = write_kit(KIT, passphrase="\u00e9t\u00e9", salt=SALT, cost=CHEAP)
    assert seeds(parse_kit(text, passphrase="e\u0301te\u0301")) == seeds(KIT)


def test_a_passphrase_for_a_kit_that_has_none_is_ignored() -> None:
    assert seeds(parse_kit(write_kit(KIT, passphrase=None, salt=SALT), passphrase="phrase")) == seeds(KIT)


@pytest.mark.parametrize("passphrase", [None, "phrase"])
def test_a_kit_typed_from_paper_is_read(passphrase: str | None) -> None:
    printed = write_kit(KIT, passphrase=passphrase, salt=SALT, cost=CHEAP)
    lines = ["territoire: Territoire du Cher", "relais"]
    lines += [line.lower().replace(" ", "").replace("0", "o").replace("1", "l") for line in block_lines(printed)]
    assert seeds(parse_kit("\r\n\r\n".join([*lines, "fin"]), passphrase=passphrase)) == seeds(KIT)


def test_the_kit_shows_what_each_code_of_its_territory_begins_with() -> None:
    shown = f"Empreinte : {territory_fingerprint(territory_id(KIT.root.public))}\n"
    assert shown in write_kit(KIT, passphrase=None, salt=SALT)


def test_a_mistyped_line_is_named() -> None:
    printed = write_kit(KIT, passphrase=None, salt=SALT)
    for number, line in enumerate(block_lines(printed), 1):
        wrong = ("3" if line[0] != "3" else "4") + line[1:]
        assert problem(printed.replace(line, wrong)) == number
        assert problem(printed.replace(line, "U" + line[1:])) == number


def test_swapped_and_missing_lines_are_noticed() -> None:
    printed = write_kit(KIT, passphrase=None, salt=SALT)
    first, second, *_, last = block_lines(printed)
    assert problem(printed.replace(second, "?").replace(first, second).replace("?", first)) == 1
    assert problem(printed.replace(last + "\n", "")) == "length"


def test_what_is_no_kit_is_refused() -> None:
    printed = write_kit(KIT, passphrase=None, salt=SALT)
    assert problem("") == "not-a-kit"
    assert problem("--- FIN ---\n--- RELAIS ---") == "not-a-kit"
    assert problem(printed + " " * MAX_KIT_BYTES) == "not-a-kit"
    assert problem(printed.replace("Territoire :", "Nom :")) == "name"
    assert problem(printed.replace("Territoire du Cher", "x" * 201)) == "name"
    assert problem("Territoire : Cher\nRELAIS\nFIN") == "version"


def test_a_kit_of_a_later_version_says_so() -> None:
    printed = write_kit(KIT, passphrase=None, salt=SALT)
    first = block_lines(printed)[0]
    later = "04" + first.replace(" ", "")[2:-3]
    assert problem(printed.replace(first, later + kit._line_check(1, later))) == "version"


@pytest.mark.parametrize(
    "cost",
    [
        Argon2Cost(MAX_KIT_MEMORY_KIB + 1, 1, 1),
        Argon2Cost(64, MAX_KIT_PASSES + 1, 1),
        Argon2Cost(8 * (MAX_KIT_LANES + 1), 1, MAX_KIT_LANES + 1),
        Argon2Cost(64, 0, 1),
        Argon2Cost(64, 1, 0),
        Argon2Cost(7, 1, 1),
    ],
)
def test_a_kit_cannot_ask_for_more_than_a_small_pc_has(cost: Argon2Cost) -> None:
    assert not cost.is_bounded
    with pytest.raises(ValueError, match="cost"):
        write_kit(KIT, passphrase="phrase", salt=SALT, cost=cost)
    block = kit._protected_head(SALT, cost) + bytes(80)
    text = "\n".join(["Territoire : Cher", "--- RELAIS ---", *kit._to_lines(block), "--- FIN ---"])
    assert problem(text, "phrase") == "cost"


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_any_text_gives_a_clear_refusal(text: str) -> None:
    for written in (text, f"Territoire : x\nRELAIS\n{text}\nFIN"):
        with pytest.raises(BadInput) as caught:
            parse_kit(written)
        assert caught.value.code is Code.BAD_KIT


def test_a_name_cannot_add_lines_to_the_kit() -> None:
    sly = Kit("Cher\n--- RELAIS ---\n0000", KIT.root, KIT.recovery)
    assert parse_kit(write_kit(sly, passphrase=None, salt=SALT)).name == "Cher --- RELAIS --- 0000"


def test_a_kit_can_be_read_after_ten_rotations_that_name_as_much_as_they_may() -> None:
    roots = [SigningKey(bytes([number]) * 32) for number in range(11)]
    territory = territory_id(roots[0].public)
    heads = tuple(blake3(bytes([number])).digest() for number in range(MAX_ROTATION_HEADS))
    chain = [
        compose(
            author=old,
            space=territory,
            kind=Kind.ROOT_ROTATION,
            grant=None,
            at=at_from(1_800_000_000_000),
            payload=RootRotation.agreed(new, territory, old.public, version, heads).encode(),
            salt=SALT,
        )
        for version, (old, new) in enumerate(pairwise(roots), 1)
    ]
    earlier = tuple(AgreementKey(bytes([number]) * 32) for number in range(10, 20))
    last = Kit("Cher", roots[-1], KIT.recovery, encode_chain(chain), roots[0].public, earlier)
    read = parse_kit(write_kit(last, passphrase=None, salt=SALT))
    assert read.chain == last.chain
    assert [key.seed for key in read.earlier] == [key.seed for key in earlier]


def test_a_kit_with_keys_of_those_before_it_ends_with_none_of_them_cut_off() -> None:
    last = Kit("Cher", KIT.root, KIT.recovery, b"", bytes(32), (KIT.recovery, KIT.recovery))
    block = b"".join((bytes((0, 4)), KIT.root.seed, KIT.recovery.seed, bytes(32), bytes([2]), KIT.recovery.seed * 2))
    whole = "\n".join(["Territoire : Cher", "--- RELAIS ---", *kit._to_lines(block), "--- FIN ---"])
    assert [key.seed for key in parse_kit(whole).opening] == [key.seed for key in last.opening]
    for cut in (1, 32, 33, 64, 65):
        text = "\n".join(["Territoire : Cher", "--- RELAIS ---", *kit._to_lines(block[:-cut]), "--- FIN ---"])
        assert problem(text) == "length"


def test_a_first_kit_has_none_before_it() -> None:
    with pytest.raises(ValueError, match="first root"):
        write_kit(Kit("Cher", KIT.root, KIT.recovery, earlier=(KIT.recovery,)), passphrase=None, salt=SALT)
