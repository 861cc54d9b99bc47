"""Weight files: where they come from and what they hash to. Loads no torch."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from functools import lru_cache
from pathlib import Path

from pipeline.errors import WeightsError
from pipeline.hashing import file_sha256

__all__ = [
    "BUNDLED",
    "KINETICS_FILE",
    "KINETICS_URL",
    "check_suffix",
    "fetch_weights",
    "weights_path",
    "weights_sha256",
]

KINETICS_NAME = "tpn-slowonly_imagenet-pretrained-r50_8xb8-8x8x1-150e_kinetics400-rgb"
KINETICS_FILE = f"{KINETICS_NAME}_20220913-fed3f4c1.pth"
KINETICS_URL = f"https://download.openmmlab.com/mmaction/v1.0/recognition/tpn/{KINETICS_NAME}/{KINETICS_FILE}"
BUNDLED = {name: Path(__file__).parent / "weights_data" / f"{name}.safetensors" for name in ("tpn_small", "tpn_tiny")}


def weights_path(weights: str, backbone: str) -> Path:
    """The file that a configuration's `weights` stand for. Raises WeightsError when it does not exist."""
    if weights == "bundled":
        if backbone not in BUNDLED:
            raise WeightsError(
                f"{backbone} has no bundled weights, only {', '.join(BUNDLED)}; give a file, or `random`"
            )
        return BUNDLED[backbone]
    path = Path(weights)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weight file (looked from {Path.cwd()}). {_where_from(backbone)}")
    return path


def _where_from(backbone: str) -> str:
    """A sentence: how to get weights of this backbone."""
    if ":" in backbone:
        page = "docs/mmaction-zoo.md" if backbone.startswith("mmaction:") else "docs/backbones.md"
        return f"Those of {backbone} are a file that you bring ({page}); `weights: random` asks for an untrained one"
    return (
        "`gig weights fetch` downloads the Kinetics-400 weights of tpn_slowonly_r50; `weights: random` asks for an "
        "untrained backbone"
    )


def weights_sha256(weights: str, backbone: str) -> str:
    """SHA-256 of the file that `weights` means. Each process computes it once while the file stays unchanged."""
    path = weights_path(weights, backbone)
    facts = path.stat()
    return _sha256(str(path.resolve()), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=16)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    return file_sha256(Path(path))


def check_suffix(path: Path, sha256: str) -> None:
    """Compare the hash with the 8 digits in a name like model-1a2b3c4d.pth. Raises WeightsError when they differ."""
    match = re.search(r"[-_]([0-9a-f]{8})\.(pth|pt|safetensors)$", path.name)
    if match and not sha256.startswith(match[1]):
        raise WeightsError(
            f"{path}: expected a SHA-256 that begins with {match[1]}, as the file's name says, got {sha256[:8]}; "
            "the download is damaged or it is another file"
        )


def fetch_weights(folder: Path, url: str = KINETICS_URL) -> Path:
    """Download a weight file to `folder`, check its hash and return its path; a file already there is only checked.

    Raises WeightsError when it cannot be downloaded or is damaged; nothing is left behind then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / url.rsplit("/", 1)[-1]
    if not final.exists():
        partial = final.with_name(f"{final.name}.partial-{os.getpid()}")
        try:
            with urllib.request.urlopen(url, timeout=60) as source, partial.open("wb") as target:
                while block := source.read(1 << 20):
                    target.write(block)
            check_suffix(final, file_sha256(partial))
            os.replace(partial, final)
        except (urllib.error.URLError, OSError) as error:
            if isinstance(error, WeightsError):
                raise
            raise WeightsError(
                f"{url}: cannot be downloaded ({error}); fetch it by other means into {folder}"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
    check_suffix(final, file_sha256(final))
    return final
