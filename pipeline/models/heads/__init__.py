"""Heads: one module each, behind one small interface (`base`) and a registry by name."""

from pipeline.models.heads import (  # they register themselves
    attention_mil,
    bn_wvad,
    gcn_label_noise,
    gig,
    mgfn,
    mil_ranking,
    pattern_norm,
    pel4vad,
    prodisc_vad,
    rtfm,
    ur_dmu,
)
from pipeline.models.heads.base import HEADS, BinaryHead, HeadModule, HeadOutput, build_head, register

__all__ = [
    "HEADS",
    "BinaryHead",
    "HeadModule",
    "HeadOutput",
    "attention_mil",
    "bn_wvad",
    "build_head",
    "gcn_label_noise",
    "gig",
    "mgfn",
    "mil_ranking",
    "pattern_norm",
    "pel4vad",
    "prodisc_vad",
    "register",
    "rtfm",
    "ur_dmu",
]
