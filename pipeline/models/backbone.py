"""TPN on SlowOnly ResNet, built from mmaction2's classes.

Of the modules of TPN this is the only one that knows mmaction2 and its layout (N, C, T, H, W).

`tpn_slowonly_r50` is mmaction2's own shipped recogniser; a checkpoint is loaded strictly into all of it, then its
recognition head and the neck's auxiliary head are dropped. `tpn_tiny` and `tpn_small` are made of the same classes with
few channels.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import WeightsError
from pipeline.models.checkpoints import load_strictly, read_checkpoint
from pipeline.models.weights import check_suffix, weights_path, weights_sha256

__all__ = [
    "Backbone",
    "build_backbone",
    "build_quietly",
    "full_state",
    "restore_backbone",
]

CONFIG = "recognition/tpn/tpn-slowonly_imagenet-pretrained-r50_8xb8-8x8x1-150e_kinetics400-rgb.py"
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def _small(base: int, stage_blocks: tuple[int, int, int, int], inflate: tuple[int, int, int, int], width: int) -> dict:
    """The settings of a TPN with few channels.

    Args:
        base: channels of the stem.
        stage_blocks: of layer1 to layer4.
        inflate: for each of these, 1 where it looks at time.
        width: channels of a level in the neck.
    """
    levels = (16 * base, 32 * base)
    return {
        "backbone": {"depth": 50, "stage_blocks": stage_blocks, "base_channels": base, "inflate": inflate},
        "neck": {
            "in_channels": levels,
            "out_channels": width,
            "spatial_modulation_cfg": {"in_channels": levels, "out_channels": levels[1]},
            "level_fusion_cfg": {
                "in_channels": (width, width),
                "mid_channels": (width, width),
                "out_channels": 2 * width,
                "downsample_scales": ((1, 1, 1), (1, 1, 1)),
            },
        },
    }


SMALL = {
    "tpn_tiny": _small(4, (1, 1, 1, 1), (0, 0, 1, 1), 64),
    "tpn_small": _small(5, (1, 1, 2, 2), (0, 1, 1, 1), 96),
}
"""What the small networks change in mmaction2's configuration. `tpn_small` looks at time from layer2 on, where a point
is 4 pixels wide: movements of a few pixels are lost on the coarser maps of layer3."""


class Backbone(nn.Module):
    """A recogniser's backbone and neck as a feature extractor.

    Attributes:
        name: `tpn_slowonly_r50`, `tpn_tiny` or `tpn_small`.
        channels: D of the output, 2048.
        weights_sha256: hash of the weight file, or `random-<seed>`.
        dropped: weights of the recogniser's heads, by name. Features do not need them, a whole checkpoint does.
    """

    channels = 2048
    dropped: dict[str, torch.Tensor]
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, name: str, backbone: nn.Module, neck: nn.Module, weights_sha256: str) -> None:
        super().__init__()
        self.name, self.weights_sha256 = name, weights_sha256
        self.backbone, self.neck, self.dropped = backbone, neck, {}
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1, 1), persistent=False)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Feature maps of clips.

        Args:
            clips: (N, L, S, S, 3) uint8 RGB, S a multiple of 32, L at most 8.

        Returns:
            (N, S / 32, S / 32, 2048) float32, non-negative.
        """
        if clips.ndim != 5 or clips.shape[-1] != 3:
            raise ValueError(f"expected clips (N, L, S, S, 3), got {tuple(clips.shape)}")
        inputs = (clips.permute(0, 4, 1, 2, 3).float() - self.mean) / self.std
        maps, _ = self.neck(self.backbone(inputs))
        if maps.shape[2] != 1:
            raise ValueError(
                f"a clip of {clips.shape[1]} frames leaves {maps.shape[2]} steps after the neck; use at most 8"
            )
        return maps[:, :, 0].permute(0, 2, 3, 1).contiguous()


def build_backbone(name: str, weights: str, *, seed: int = 0) -> Backbone:
    """A frozen backbone in evaluation mode.

    Args:
        name: `tpn_slowonly_r50`, `tpn_tiny` or `tpn_small`.
        weights: a checkpoint of the full recogniser (.pth as mmaction2 writes it, or .safetensors), `bundled`, or
            `random`.
        seed: of the initialisation when weights are `random`.

    Raises:
        WeightsError: the file does not exist, is damaged, belongs to another network, or holds more than tensors and
            plain data.
    """
    recognizer = _build_recognizer(name)
    if weights == "random":
        _initialise(recognizer, seed)
        sha256 = f"random-{seed}"
    else:
        path = weights_path(weights, name)
        sha256 = weights_sha256(weights, name)
        check_suffix(path, sha256)
        load_strictly(recognizer, read_checkpoint(path), path, name)
    whole = recognizer.state_dict()
    network = _without_heads(recognizer, name, sha256)
    network.dropped = {key: value.clone() for key, value in whole.items() if key not in network.state_dict()}
    return network


def restore_backbone(name: str, state: Mapping[str, torch.Tensor], weights_sha256: str, where: Path) -> Backbone:
    """The backbone of a `Backbone.state_dict()`, which has no heads of the recogniser and so none in `dropped`.

    Args:
        name: as of `build_backbone`.
        state: the state dictionary.
        weights_sha256: what its attribute of that name said.
        where: the state is from, for errors.

    Raises:
        WeightsError: the state is of another network.
    """
    network = _without_heads(_build_recognizer(name), name, weights_sha256)
    load_strictly(network, state, where, name)
    return network


def _without_heads(recognizer: nn.Module, name: str, sha256: str) -> Backbone:
    backbone, neck = recognizer.get_submodule("backbone"), recognizer.get_submodule("neck")
    if "aux_head" in dict(neck.named_children()):
        neck.register_module("aux_head", None)
    network = Backbone(name, backbone, neck, sha256)
    network.requires_grad_(False)
    network.eval()  # not chained: mmaction2's ResNet3d.train() returns None
    return network


def full_state(network: Backbone) -> dict[str, torch.Tensor]:
    """A checkpoint of the whole recogniser with the network's present weights, on the CPU.

    `build_backbone` loads it.
    """
    return {key: value.detach().cpu().contiguous() for key, value in (network.state_dict() | network.dropped).items()}


def _builder() -> Callable[[object], nn.Module]:
    """mmaction2's function that builds a module from its configuration.

    Raises ImportError, which names the remedy where libGL is missing.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from mmaction.registry import MODELS
            from mmaction.utils import register_all_modules
        except ImportError as error:
            if "libGL" in str(error) or "libgthread" in str(error):
                raise ImportError(
                    f"{error}: opencv needs system libraries; apt-get install libgl1 libglib2.0-0"
                ) from error
            raise
        register_all_modules()
    return MODELS.build


def build_quietly(model: object, seed: int = 0) -> nn.Module:
    """A module of mmaction2 from its configuration, with weights of this seed. Raises ImportError as mmaction2 does."""
    build = _builder()
    disabled = logging.root.manager.disable
    logging.disable(logging.INFO)  # some of its networks report every layer
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            return build(model)
    finally:
        logging.disable(disabled)


def _build_recognizer(name: str) -> nn.Module:
    """mmaction2's full recogniser: backbone and neck; for R50 also the auxiliary and the recognition head."""
    if name not in ("tpn_slowonly_r50", *SMALL):
        raise WeightsError(f"unknown backbone {name!r}; there are tpn_slowonly_r50, {' and '.join(SMALL)}")
    _builder()  # first: it says what is missing
    import mmaction
    from mmengine.config import Config

    model = Config.fromfile(Path(mmaction.__file__).parent / ".mim" / "configs" / CONFIG).model
    model.backbone.pretrained = None
    if name in SMALL:
        model.backbone.update(SMALL[name]["backbone"])
        model.neck.update(SMALL[name]["neck"])
        model.neck.aux_head_cfg = None
        model.cls_head = None
    return build_quietly(model)


def _initialise(recognizer: nn.Module, seed: int) -> None:
    """Random weights (He) that keep the scale of activations.

    With mmaction2's own initialisation features are near 0.0007.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in recognizer.named_modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm3d):
                module.reset_running_stats()
                # A residual block's last norm adds to its input: kept small, or the sum grows with depth.
                nn.init.constant_(module.weight, 0.2 if name.endswith("conv3.bn") else 1.0)
                nn.init.zeros_(module.bias)
