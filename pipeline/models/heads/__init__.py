"""Heads: one module each, behind one small interface (`base`) and a registry by name."""

from pipeline.models.heads import attention_mil, bn_wvad, gig, mil_ranking, pattern_norm, rtfm, ur_dmu  # they register themselves
from pipeline.models.heads.base import HEADS, BinaryHead, HeadModule, HeadOutput, build_head, register

__all__ = [
    "HEADS",
    "BinaryHead",
    "HeadModule",
    "HeadOutput",
    "attention_mil",
    "bn_wvad",
    "build_head",
    "gig",
    "mil_ranking",
    "pattern_norm",
    "register",
    "rtfm",
    "ur_dmu",
]
