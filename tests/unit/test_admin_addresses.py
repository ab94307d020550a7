from __future__ import annotations

import csv
import io
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_server.handlers.overview.device_query import PAGE_SIZES, DeviceQuery, DeviceSort
from sync_server.handlers.overview.devices import DeviceState
from sync_server.web.addresses import ROOT, device_query_of, devices_address, own_address
from sync_server.web.exports import as_csv, as_json
from tests.harness.snapshots import device, snapshot

queries = st.builds(
    DeviceQuery,
    text=st.text(max_size=20).map(str.strip),
    states=st.frozensets(st.sampled_from(DeviceState)),
    school=st.sampled_from([None, "0180001X", "a&b=c"]),
    version=st.sampled_from([None, "0.1.0"]),
    needing=st.booleans(),
    sort=st.sampled_from(DeviceSort),
    descending=st.booleans(),
    page=st.integers(1, 10_000),
    rows=st.sampled_from(PAGE_SIZES),
)


@given(queries.filter(lambda query: not any("\ud800" <= char <= "\udfff" for char in query.text)))
def test_an_address_says_exactly_what_was_asked(query: DeviceQuery) -> None:
    asked = parse_qs(urlsplit(devices_address(query)).query, keep_blank_values=True)
    single = {key: values[0] for key, values in asked.items()}
    assert device_query_of(single, asked.get("state", [])) == query


@pytest.mark.parametrize(
    "foreign",
    [
        None,
        "",
        "/",
        "/adminx",
        "//evil.example/admin/",
        "https://evil.example/admin/",
        "/admin/\r\nSet-Cookie: x",
        "/admin/ x",
    ],
)
def test_an_address_that_is_not_ours_leads_home(foreign: str | None) -> None:
    assert own_address(foreign) == ROOT
    assert own_address("/admin/devices?state=late&q=%C3%A9") == "/admin/devices?state=late&q=%C3%A9"


def test_a_name_that_a_spreadsheet_would_run_is_only_a_name() -> None:
    names = ['=HYPERLINK("http://evil.example")', "+1", "-1", "@x", '"quoted", with a comma\nand a line']
    found = snapshot(*(device(number, name=name) for number, name in enumerate(names)))
    text = "".join(as_csv(list(found.devices), found))
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"))))
    assert [row["name"] for row in rows] == [f"'{name}" for name in names[:4]] + [names[4].replace("\n", " ")]


@pytest.mark.parametrize("separator", [",", ";"])
def test_no_spreadsheet_of_any_country_finds_a_formula_within_a_name(separator: str) -> None:
    names = ["PC du fond;=cmd|' /C calc'!A0;", "a\t=1", "＝1", 'x"\n=1', "a;+1"]  # noqa: RUF001  (a wide sign)
    found = snapshot(*(device(number, name=name) for number, name in enumerate(names)))
    text = "".join(as_csv(list(found.devices), found)).removeprefix("\ufeff")
    cells = [cell for row in csv.reader(io.StringIO(text), delimiter=separator) for cell in row]
    assert len(cells) > len(names)
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "＝"))]  # noqa: RUF001


def test_no_rows_are_still_a_table_and_an_array() -> None:
    found = snapshot()
    assert "".join(as_csv([], found)).startswith("\ufeffdevice,name,role,state,")
    assert "".join(as_json([], found)) == "[]\n"


def test_many_rows_come_in_parts() -> None:
    found = snapshot(*(replace(device(1), id=number.to_bytes(32, "big")) for number in range(1_201)))
    assert sum(1 for _ in as_json(list(found.devices), found)) == 4
    assert len("".join(as_csv(list(found.devices), found)).splitlines()) == 1_202
