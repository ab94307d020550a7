from __future__ import annotations

import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerFault
from sync_agent.lan.finding.mdns_messages import SERVICE, Instance, answer, asks_for_us, instances, question

ADDRESSES = st.one_of(st.none(), st.ip_addresses())


@given(name=st.text("0123456789abcdef", min_size=1, max_size=63), port=st.integers(1, 65_535), address=ADDRESSES,
       txt=st.binary(max_size=255), ttl_s=st.integers(0, 4500), seal=st.binary(max_size=96))  # fmt: skip
def test_what_is_announced_is_what_is_heard(
    name: str, port: int, address: object, txt: bytes, ttl_s: int, seal: bytes
) -> None:
    assert address is None or isinstance(address, (ipaddress.IPv4Address, ipaddress.IPv6Address))
    told = Instance(name, port, address, txt, ttl_s, seal)
    assert instances(answer(told)) == [told]
    assert not asks_for_us(answer(told))


def test_a_question_is_recognised_and_tells_of_nobody() -> None:
    assert asks_for_us(question())
    assert instances(question()) == []


def test_a_question_by_other_programs_for_other_services_is_none_of_ours() -> None:
    assert not asks_for_us(question().replace(b"_relais", b"_printe"))
    assert asks_for_us(question().replace(b"_relais", b"_RELAIS")), "names know no case (RFC 6762 §16)"


def test_names_may_be_written_by_pointers() -> None:
    # as responders do that compress: the PTR's own name at 12, its target "ab" + pointer to 12, and so on
    service = b"".join(bytes([len(label)]) + label.encode() for label in SERVICE) + b"\0"
    full = b"\x02ab\xc0\x0c"
    at_full = 12 + len(service) + 10
    pointer = bytes([0xC0, at_full])
    host = b"\x02pc\xc0" + bytes([12 + 1 + len(SERVICE[0]) + 1 + len(SERVICE[1])])
    records = service + b"\0\x0c\0\x01\0\0\0\x78" + len(full).to_bytes(2, "big") + full
    records += pointer + b"\0\x21\x80\x01\0\0\0\x78" + (6 + len(host)).to_bytes(2, "big") + b"\0\0\0\0\x1f\x90" + host
    records += pointer + b"\0\x10\x80\x01\0\0\0\x78\0\x05\x04r=xy"
    message = b"\0\0\x84\0\0\0\0\x03\0\0\0\0" + records
    assert instances(message) == [Instance("ab", 8080, None, b"r=xy", 120)]


@given(st.binary(max_size=200))
def test_noise_is_refused_or_tells_of_nobody_and_never_more(data: bytes) -> None:
    asks_for_us(data)
    with contextlib.suppress(PeerFault):
        assert instances(data) == []


@given(st.data())
def test_a_damaged_announcement_never_breaks_the_reader(data: st.DataObject) -> None:
    told = bytearray(answer(Instance("ab", 1, ipaddress.ip_address("10.0.0.1"), b"r=")))
    place = data.draw(st.integers(0, len(told) - 1))
    told[place] = data.draw(st.integers(0, 255))
    asks_for_us(bytes(told))
    with contextlib.suppress(PeerFault):
        instances(bytes(told))


def test_a_pointer_that_leads_in_a_circle_is_refused() -> None:
    with pytest.raises(PeerFault):
        instances(b"\0\0\x84\0\0\0\0\x01\0\0\0\0" + b"\xc0\x0c" + bytes(10))
