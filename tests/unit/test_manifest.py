from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.errors import BadInput, Code, PeerFault, TooLarge
from protocol.limits import MAX_FILE_BYTES, MAX_FILES_PER_REVISION, MAX_MANIFEST_BYTES
from protocol.portable_names import Problem, Why, check_portable, portability_problems, portable_form
from protocol.transfer import manifest
from protocol.transfer.chunking import chunk_list, cut, stream_id
from protocol.transfer.manifest import MANIFEST_MAGIC, ManifestEntry, decode_manifest, encode_manifest, read_manifest

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "vectors" / "manifest.json").read_text("utf-8"))


def entry(path: str, size: int = 0) -> ManifestEntry:
    return ManifestEntry(path, size, blake3(path.encode()).digest())


def record(path: bytes) -> bytes:
    return len(path).to_bytes(2, "big") + bytes(4) + path + bytes(32)


def laid_out(entry: ManifestEntry) -> bytes:
    path = entry.path.encode()
    return len(path).to_bytes(2, "big") + entry.size.to_bytes(4, "big") + path + entry.stream


# --- vectors ---


def test_a_tree_is_encoded_as_the_vectors_say() -> None:
    entries = tuple(ManifestEntry(e["path"], e["size"], bytes.fromhex(e["stream"])) for e in VECTORS["entries"])
    encoded = encode_manifest(entries)
    assert encoded.hex() == VECTORS["encoded"]
    assert set(decode_manifest(encoded)) == set(entries)
    assert stream_id(chunk_list(cut(encoded))).hex() == VECTORS["stream_id"]


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=[vector["name"] for vector in VECTORS["refused"]])
def test_a_hostile_manifest_is_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(PeerFault) as refusal:
        decode_manifest(bytes.fromhex(vector["encoded"]))
    assert refusal.value.code == vector["code"]
    assert refusal.value.facts.get("why") == vector["why"]


# --- laws ---

trees = st.dictionaries(
    st.text("abcéÉ /.", min_size=1, max_size=12),
    st.tuples(st.integers(0, MAX_FILE_BYTES), st.binary(min_size=32, max_size=32)),
).map(
    lambda tree: [
        ManifestEntry(portable_form(path), size, stream)
        for path, (size, stream) in tree.items()
        if not check_portable([path])
    ]
)


@given(trees, st.randoms(use_true_random=False))
def test_one_tree_has_one_manifest_whatever_the_order(tree: list[ManifestEntry], random: Any) -> None:
    if check_portable(entry.path for entry in tree):
        return
    encoded = encode_manifest(tree)
    decoded = decode_manifest(encoded)
    assert decoded == tuple(sorted(tree, key=lambda entry: entry.path.encode()))
    random.shuffle(tree)
    assert encode_manifest(tree) == encoded


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=6).map(record), max_size=4).map(b"".join))
@example(record("\u07b2".encode()))
def test_bytes_that_are_accepted_are_the_only_encoding_of_their_tree(body: bytes) -> None:
    try:
        decoded = decode_manifest(MANIFEST_MAGIC + body)
    except PeerFault:
        return
    assert MANIFEST_MAGIC + b"".join(map(laid_out, decoded)) == MANIFEST_MAGIC + body
    assert [entry.path.encode() for entry in decoded] == sorted({entry.path.encode() for entry in decoded})
    if check_portable(entry.path for entry in decoded):
        # A reader takes characters that its own Unicode does not know yet; a writer does not.
        assert not check_portable((entry.path for entry in decoded), known_characters_only=False)
        with pytest.raises(BadInput):
            encode_manifest(decoded)
    else:
        assert encode_manifest(decoded) == MANIFEST_MAGIC + body


def test_an_empty_tree_is_a_tree() -> None:
    assert encode_manifest([]) == MANIFEST_MAGIC
    assert decode_manifest(MANIFEST_MAGIC) == ()


def test_a_change_of_one_file_among_six_thousand_leaves_nearly_all_chunks_as_they_were() -> None:
    files = [entry(f"Matière {n % 7}/Chapitre {n % 40:02d}/fiche {n:05d}.odt", n) for n in range(6_000)]
    before = chunk_list(cut(encode_manifest(files)))
    files[3_000] = ManifestEntry(files[3_000].path, 1, bytes(32))
    del files[5_000]
    after = chunk_list(cut(encode_manifest(files)))
    assert len(set(after) - set(before)) <= 3


# --- what a teacher may try ---


def test_a_name_that_a_mac_gives_is_stored_in_the_form_of_all_others() -> None:
    (stored,) = decode_manifest(encode_manifest([entry("e\u0301te\u0301.txt")]))
    assert stored.path == "été.txt"


def test_bad_names_are_refused_and_all_of_them_named() -> None:
    with pytest.raises(BadInput) as refusal:
        encode_manifest([entry("ok"), entry("nul.txt"), entry("OK")])
    assert refusal.value.code is Code.BAD_NAME
    assert [problem.why for problem in refusal.value.facts["problems"]] == [Why.RESERVED_NAME, Why.CASE_COLLISION]  # type: ignore[attr-defined]
    assert refusal.value.message == (
        "nul.txt: Windows reserves this name for a device; "
        "OK: another name in this folder differs only in capital and small letters"
    )
    with pytest.raises(BadInput, match=r"^fin\.: the name ends with a dot, which Windows removes$"):
        encode_manifest([entry("fin.")])


def test_a_file_of_four_gigabytes_is_refused_and_one_byte_less_accepted() -> None:
    assert decode_manifest(encode_manifest([entry("big", MAX_FILE_BYTES)]))[0].size == MAX_FILE_BYTES
    with pytest.raises(BadInput) as refusal:
        encode_manifest([entry("big", MAX_FILE_BYTES + 1)])
    assert refusal.value.code is Code.FILE_TOO_LARGE


def test_fifty_thousand_files_are_published_and_one_more_is_refused() -> None:
    files = [entry(f"{n % 100}/{n}") for n in range(MAX_FILES_PER_REVISION + 1)]
    encoded = encode_manifest(files[:-1])
    assert len(decode_manifest(encoded)) == MAX_FILES_PER_REVISION
    with pytest.raises(BadInput) as refusal:
        encode_manifest(files)
    assert refusal.value.code is Code.TOO_MANY_FILES
    with pytest.raises(TooLarge) as too_large:
        decode_manifest(encoded + record(b"zz"))
    assert too_large.value.code is Code.TOO_MANY_FILES


def test_a_manifest_larger_than_allowed_is_neither_written_nor_read() -> None:
    folders = "/".join(["f" * 200] * 4)
    with pytest.raises(BadInput) as refusal:
        encode_manifest([entry(f"{folders}/{n:0200d}") for n in range(MAX_MANIFEST_BYTES // 1_000)])
    assert refusal.value.code is Code.TOO_MANY_FILES
    with pytest.raises(TooLarge):
        decode_manifest(bytes(MAX_MANIFEST_BYTES + 1))


def test_a_stream_id_of_another_length_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        encode_manifest([ManifestEntry("a", 0, b"short")])


def test_a_reader_with_an_older_unicode_reads_a_newer_name() -> None:
    path = "a\U000a0000".encode()
    assert decode_manifest(MANIFEST_MAGIC + record(path))[0].path == path.decode()


# --- names that were looked at before ---


def test_of_a_list_like_one_that_was_read_the_names_are_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = decode_manifest(encode_manifest([entry("a/b.txt"), entry("c.txt", 1), entry("d.txt")]))
    after = encode_manifest([entry("a/b.txt", 7), entry("c.txt", 1)])
    looked: list[str] = []
    problems = portability_problems

    def noted(paths: Iterable[str], *, known_characters_only: bool) -> Iterable[Problem]:
        looked.extend(paths)
        return problems(looked, known_characters_only=known_characters_only)

    monkeypatch.setattr(manifest, "portability_problems", noted)
    assert [file.size for file in decode_manifest(after, like=before)] == [7, 1]
    assert looked == []
    decode_manifest(encode_manifest([entry("c.txt", 1), entry("neuf.txt")]), like=before)
    assert looked == ["c.txt", "neuf.txt"]


@pytest.mark.parametrize("path", [b"../a.txt", b"A.txt", b"nul", b"a.txt/b"])
def test_a_name_too_many_is_refused_however_many_are_known(path: bytes) -> None:
    before = decode_manifest(MANIFEST_MAGIC + record(b"a.txt"))
    data = MANIFEST_MAGIC + b"".join(map(record, sorted([b"a.txt", path])))
    assert len(read_manifest(data)) == 2
    for like in ((), before):
        with pytest.raises(PeerFault) as caught:
            decode_manifest(data, like=like)
        assert caught.value.code is Code.BAD_NAME


def test_without_a_look_at_names_a_list_is_checked_like_any_other() -> None:
    for data in (b"no list", MANIFEST_MAGIC + record(b"b") + record(b"a"), MANIFEST_MAGIC + record(b"a")[:-1]):
        with pytest.raises(PeerFault):
            read_manifest(data)
    with pytest.raises(TooLarge):
        read_manifest(bytes(MAX_MANIFEST_BYTES + 1))
