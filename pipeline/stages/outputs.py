"""Output folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["whole_folder"]


@contextmanager
def whole_folder(final: Path) -> Iterator[Path]:
    """A fresh folder beside `final` that is renamed to it when the block ends well, and removed when it does not.

    Where another process finished the same output in the meantime, that one is kept: both were made by one recipe.
    """
    partial = final.with_name(f"{final.name}.partial-{uuid.uuid4().hex[:8]}")
    partial.mkdir(parents=True)
    try:
        yield partial
        try:
            os.rename(partial, final)
        except OSError:
            if not final.is_dir():
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
