"""Backbones: what turns pictures into feature maps, all behind one interface (docs/backbones.md)."""

from pipeline.models.backbones.interface import BackboneFacts, VideoBackbone
from pipeline.models.backbones.registry import backbone_facts, load_backbone

__all__ = ["BackboneFacts", "VideoBackbone", "backbone_facts", "load_backbone"]
