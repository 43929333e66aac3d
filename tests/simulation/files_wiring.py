"""The real mirror with the time, the chance and the interruptions of a simulated world."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from steno.storage.store import Store
from steno.sync.files import exchange
from steno.tests.simulation.files_desk import Desk, World


@contextlib.contextmanager
def wired(worlds: Callable[[], World | None]) -> Generator[pytest.MonkeyPatch]:
    """Let time, chance and the points of the mirror's work be those of the world that is running."""
    modules = [module for name, module in sys.modules.items() if name.startswith("steno.sync.files.")]
    real_write, names = exchange._write, itertools.count()

    def world() -> World:
        found = worlds()
        assert found is not None
        return found

    def desk() -> Desk:
        found = world().job
        assert found is not None
        return found

    def parsed(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def remembered(data: bytes) -> Any:
            desk().parsed = data
            return parse(data)

        return remembered

    def absorbing(absorb: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **options: desk().absorbing(absorb)(*given, **options)  # noqa: PLW0108  by who runs it

    def write(path: Path, parts: Iterable[bytes]) -> Any:
        data = b"".join(parts)
        desk().written(data)
        return real_write(path, [data])

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            if hasattr(module, "step"):
                patch.setattr(module, "step", lambda at: world().point(at))
            if module.__name__ != "steno.sync.files.lines" and hasattr(module, "parse"):
                patch.setattr(module, "parse", parsed(module.parse))
            if module.__name__ != "steno.sync.files.absorb" and hasattr(module, "absorb"):
                patch.setattr(module, "absorb", absorbing(module.absorb))
        patch.setattr(exchange, "_write", write)
        patch.setattr(logging.getLogger("steno.files"), "disabled", True)
        patch.setattr(exchange.secrets, "token_hex", lambda _: f"{next(names):012x}")
        yield patch


def template(folder: Path) -> dict[str, Path]:
    """An empty store for each device, made once."""
    made = {}
    for name in ("a", "b"):
        made[name] = folder / f"{name}.template"
        Store(made[name], random=lambda length, name=name: name.rjust(length, "0")).close()
    return made
