"""What all tests share: no law is judged by how fast a busy machine checks it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("relais", deadline=None)
settings.load_profile("relais")
