"""What all tests share: no law is judged by how fast a busy machine checks it; programs start as installed ones do."""

from __future__ import annotations

import compileall
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PROGRAMS = ("protocol", "sync_agent", "sync_server")

settings.register_profile("relais", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("relais")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the programs compiled, as pip installs them, even where Python is told to write no bytecode by itself.

    Tests start them a thousand times, and each would compile some three hundred modules anew: a quarter of a second.
    """
    if not hasattr(config, "workerinput"):
        for program in PROGRAMS:
            compileall.compile_dir(Path(__file__).parents[1] / program, quiet=1)
