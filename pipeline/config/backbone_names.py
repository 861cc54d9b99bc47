"""Names of backbones, and what they are called in folders and namespaces."""

from __future__ import annotations

import difflib
import re

__all__ = ["FAMILIES", "STAND_INS", "TPN_LONGEST_CLIP", "TPN_NAMES", "check_backbone_name", "name_in_paths"]

STAND_INS = ("tpn_small", "tpn_tiny")
"""Small ones whose weights come from generated material."""
TPN_NAMES = ("tpn_slowonly_r50", *STAND_INS)
TPN_LONGEST_CLIP = 8
"""Frames; of more, several steps are left after the neck."""
FAMILIES = {
    "timm": "an image model by its name in timm, such as timm:vit_base_patch16_clip_224.openai",
    "mmaction": "a recogniser by the name of its configuration in mmaction2",
    "python": "a module of your own, such as python:my_package.my_backbone",
}
MODEL = {
    "timm": r"[A-Za-z0-9_]+(\.[A-Za-z0-9_-]+)*",
    "mmaction": r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*",
    "python": r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*",
}
LONGEST = 120


def check_backbone_name(name: str) -> str:
    """The name itself. Raises ValueError for one that no backbone can have; whether there is one is not asked."""
    family, colon, model = name.partition(":")
    if not colon and name in TPN_NAMES:
        return name
    if not colon or family not in FAMILIES:
        known = "; ".join(f"{key}:... ({what})" for key, what in FAMILIES.items())
        raise ValueError(f"unknown backbone {name!r}{_meant(name)}; expected {', '.join(TPN_NAMES)}, or {known}")
    if len(name) > LONGEST or not re.fullmatch(MODEL[family], model):
        raise ValueError(f"{name!r} cannot be the name of a backbone; expected {FAMILIES[family]}")
    return name


def _meant(name: str) -> str:
    """Ask for the name that was probably meant: one of TPN's, or the same of the family whose names look so."""
    family, colon, model = name.rpartition(":")
    if name.startswith("tpn"):
        near = difflib.get_close_matches(name, TPN_NAMES, n=1)
    else:
        families = difflib.get_close_matches(family, FAMILIES, n=1) if colon else ["timm", "mmaction"]
        near = [f"{one}:{model}" for one in families if re.fullmatch(MODEL[one], model)]
    return f"; did you mean {near[0]}?" if near else ""


def name_in_paths(name: str) -> str:
    """The name with small letters, digits, `.`, `_` and `-` only; different for different backbones.

    The colon of a family becomes `-`, and what else is not allowed its code: `timm:vit_B` becomes `timm-vit_--42-`.
    """
    family, colon, model = name.rpartition(":")
    safe = re.sub(r"[^a-z0-9._-]|-(?=-)", lambda match: f"--{ord(match[0]):02x}-", model)
    return f"{family}-{safe}" if colon else safe
