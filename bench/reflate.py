"""Seeing inside containers: what comes back bit for bit, how fast, and what is left for the line.

Per kind of file, of about `MOST_BYTES` of them in the order of their paths: the share of deflate bytes that unfold,
megabytes of files per second of one core to unfold and to fold, and what zstd -19 (long distance matching, 128 MiB)
makes of the files as they are and of their images with their recipes. Every file is folded and compared, and its image
is made again from it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import zstandard

from bench.results import Figure, Result, Setting
from protocol.limits import GiB
from protocol.transfer.deflate_parameters import profile
from protocol.transfer.deflate_streams import Effort, find_streams
from protocol.transfer.reflate import fold, reopen, unfold

MOST_BYTES: Final = 4_000_000
GOALS: Final = {"png": 92.0, "pdf": 90.0}
CONTAINER_GOAL: Final = 100.0
_CONTAINERS: Final = ("docx", "epub", "h5p", "odp", "ods", "odt", "pptx", "xlsx", "zip")
_KINDS: Final = ("pdf", "png", "svgz", "gz", *_CONTAINERS)


def measure(setting: Setting) -> Iterator[Result]:
    """A table for each catalogue, a line for each kind of container in it."""
    for catalogue in setting.catalogues:
        for kind in _KINDS:
            chosen = list(_chosen(catalogue.folder, kind))
            if not chosen:
                continue
            figures = _figures(chosen)
            goal = CONTAINER_GOAL if kind in _CONTAINERS else GOALS.get(kind)
            goals = {} if goal is None else {"reproduced_percent": goal}
            yield Result(f"inside containers: {catalogue.name}", f"{kind}, {len(chosen):,} files", figures, goals)


def _chosen(folder: Path, kind: str) -> Iterator[bytes]:
    left = MOST_BYTES
    for file in sorted(folder.rglob(f"*.{kind}")):
        yield file.read_bytes()
        left -= file.stat().st_size
        if left <= 0:
            return


def _figures(files: list[bytes]) -> dict[str, Figure]:
    deflated = unfolded_bytes = image_bytes = 0
    unfold_s = fold_s = 0.0
    inside: list[bytes] = []
    for data in files:
        deflated += sum(len(stream.packed) for stream in find_streams(data, Effort(GiB)))
        began = time.process_time()
        made = unfold(data, allowed=profile())
        unfold_s += time.process_time() - began
        if made is None:
            inside.append(data)
            continue
        began = time.process_time()
        again = fold(made.image, made.recipe, max_bytes=len(data))
        fold_s += time.process_time() - began
        if again != data or reopen(data, made.recipe, max_bytes=len(made.image)) != made.image:
            raise RuntimeError("a file did not come back")
        unfolded_bytes += made.stream_bytes
        image_bytes += len(made.image)
        inside += [made.image, made.recipe]
    size = sum(map(len, files))
    return {
        "files_bytes": size,
        "reproduced_percent": 100 * unfolded_bytes / max(deflated, 1),
        "image_bytes": image_bytes,
        "unfold_mb_per_s": size / 1e6 / max(unfold_s, 1e-9),
        "fold_mb_per_s": size / 1e6 / max(fold_s, 1e-9),
        "plain_zstd_bytes": _compressed(files),
        "inside_zstd_bytes": _compressed(inside),
    }


def _compressed(parts: list[bytes]) -> int:
    parameters = zstandard.ZstdCompressionParameters.from_level(19, window_log=27, enable_ldm=True)
    return len(zstandard.ZstdCompressor(compression_params=parameters).compress(b"".join(parts)))
