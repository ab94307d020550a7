"""What a newer Python lets pass, and the oldest one that we promise (`requires-python`) refuses when it imports us."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from types import MappingProxyType

import pytest

import protocol
import sync_agent
import sync_server


def _modules() -> Iterator[str]:
    for package in (protocol, sync_agent, sync_server):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                yield module.name


@pytest.mark.parametrize("package", [protocol, sync_agent, sync_server])
def test_no_field_of_a_dataclass_begins_as_a_mapping_that_python_3_11_takes_for_a_shared_one(package: object) -> None:
    """A mapping proxy can be hashed since 3.12; before, `dataclass` refused it as a default, at import."""
    name = getattr(package, "__name__", "")
    modules = [importlib.import_module(module) for module in _modules() if module.startswith(f"{name}.")]
    assert modules
    refused = {
        f"{one.__module__}.{one.__qualname__}.{field.name}"
        for module in modules
        for one in vars(module).values()
        if isinstance(one, type) and dataclasses.is_dataclass(one)
        for field in dataclasses.fields(one)
        if isinstance(field.default, MappingProxyType)
    }
    assert not refused
