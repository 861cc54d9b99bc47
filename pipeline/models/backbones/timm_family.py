"""Image models of timm, `timm:<model>`: the patches or positions of every frame, and of a clip their mean, maximum or
change.

Every frame is computed once, however many windows it lies in. Nothing is downloaded: weights are a local file.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.config.features import Backbone as Settings
from pipeline.errors import ConfigError, WeightsError
from pipeline.models.backbones.interface import BackboneFacts, VideoBackbone
from pipeline.models.backbones.timm_library import import_timm
from pipeline.models.checkpoints import mismatches, read_checkpoint
from pipeline.models.weights import check_suffix, weights_path, weights_sha256

__all__ = ["TimmBackbone", "facts", "load", "restore", "tensors"]


@dataclass(frozen=True)
class _Model:
    """What is known of an image model without its weights.

    Attributes:
        channels: of its features.
        cell: pixels per patch or position.
        size: (height, width) of its own pictures, in whole cells: 384 pixels are 378 for patches of 14, since its own
            network drops the rest too; of a convolutional network, which sees the rest, rounded up.
        any_size: whether it computes pictures of other sizes.
        layout: of what it returns: `tokens` (n, prefix + h w, D), `channels first` or `channels last`.
        prefix: tokens before those of the patches: class tokens and registers.
        mean, std: of pictures with values 0 to 255.
        classifier: names of the layers of its classifier, which are left out.
    """

    channels: int
    cell: int
    size: tuple[int, int]
    any_size: bool
    layout: str
    prefix: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    classifier: tuple[str, ...]


def facts(settings: Settings) -> BackboneFacts:
    """What is known without the weights. Raises ConfigError for a model that timm does not have."""
    model = _model(settings.model)
    return BackboneFacts(
        name=settings.name,
        channels=model.channels * (2 if settings.temporal == "diff" else 1),
        cell=model.cell,
        longest_clip=None,
        size=model.size,
        any_size=model.any_size,
        mean=model.mean,
        std=model.std,
        non_negative=False,
    )


def load(settings: Settings) -> TimmBackbone:
    """The backbone with its weights. Raises ConfigError and WeightsError."""
    if settings.weights == "random":
        return TimmBackbone(settings, _network(settings.model, settings.seed), f"random-{settings.seed}")
    path = weights_path(settings.weights, settings.name)
    sha256 = weights_sha256(settings.weights, settings.name)
    check_suffix(path, sha256)
    found, network, notes = read_checkpoint(path), _network(settings.model, 0), []
    state, left_out = _without_classifier(found, network, settings.model)
    if mismatches(network.state_dict(), state) and (converted := _converted(found, network, settings.model)):
        other, also_left_out = _without_classifier(converted, network, settings.model)
        if not mismatches(network.state_dict(), other):
            state, left_out = other, also_left_out
            notes.append(
                f"{path.name} has names of another project; timm made the {len(converted)} tensors of the model of its "
                f"{len(found)}"
            )
    _load_strictly(network, state, settings.name, path)
    if left_out:
        notes.append(f"the classifier in {path.name} is not used: {', '.join(left_out)}")
    backbone = TimmBackbone(settings, network, sha256)
    backbone.notes = tuple(notes)
    return backbone


def tensors(settings: Settings) -> Mapping[str, torch.Tensor]:
    """The weights by timm's names, without the classifier. Raises ConfigError and WeightsError."""
    return load(settings).network.state_dict()


def restore(settings: Settings, state: Mapping[str, torch.Tensor], weights_sha256: str, where: Path) -> TimmBackbone:
    """The backbone of what `tensors` gave. Raises ConfigError and WeightsError."""
    network = _network(settings.model, 0)
    _load_strictly(network, state, settings.name, where)
    return TimmBackbone(settings, network, weights_sha256)


def _load_strictly(network: nn.Module, state: Mapping[str, torch.Tensor], name: str, where: Path) -> None:
    if problems := mismatches(network.state_dict(), state):
        raise WeightsError(
            f"{where}: no weights of {name} by the names of timm, or by others that timm knows: {problems}"
        )
    network.load_state_dict(state, strict=True)


class TimmBackbone(VideoBackbone):
    """Features of every frame by an image model, and of a clip their mean, maximum or change.

    `temporal: mean` and `max` are over the L frames of the clip, position by position. `diff` has 2 D channels: the
    mean (f_1 + ... + f_L) / L, then the mean absolute change (|f_2 - f_1| + ... + |f_L - f_(L-1)|) / (L - 1), 0 for a
    single frame.

    Args:
        settings: name and `temporal`.
        network: the image model without a classifier.
        weights_sha256: of its weight file, or `random-<seed>`.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, settings: Settings, network: nn.Module, weights_sha256: str) -> None:
        super().__init__(facts(settings), weights_sha256)
        self.network, self.temporal, self._model = network, settings.temporal, _model(settings.model)
        self._dtype = torch.float32
        for name in ("mean", "std"):
            values = torch.tensor(getattr(self.facts, name), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None], persistent=False)
        self.requires_grad_(False)
        self.eval()

    def set_precision(self, dtype: torch.dtype) -> None:
        """Compute in float32, bfloat16 or float16; what is made of several frames is computed in float32."""
        self._dtype = dtype
        self.network.to(dtype)

    def frames(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, D, rows, columns) of images (n, H, W, 3) uint8, in the type of the weights."""
        if images.ndim != 4 or images.shape[-1] != 3:
            raise ValueError(f"expected images (n, H, W, 3), got {tuple(images.shape)}")
        rows, columns = self.facts.map_size(images.shape[1], images.shape[2])
        inputs = images.permute(0, 3, 1, 2).float().sub_(self.mean).div_(self.std).to(self._dtype)
        features: torch.Tensor = self.network.forward_features(inputs)  # type: ignore[operator]
        if self._model.layout == "tokens":
            features = features[:, self._model.prefix :].unflatten(1, (rows, columns))
        return features if self._model.layout == "channels first" else features.permute(0, 3, 1, 2)

    def clips(self, frames: torch.Tensor) -> torch.Tensor:
        """Maps (N, rows, columns, channels) float32 of features (L, N, D, rows, columns)."""
        features = frames.float()
        maps = features.amax(dim=0) if self.temporal == "max" else features.mean(dim=0)
        if self.temporal == "diff":
            changes = features.diff(dim=0).abs()
            change = changes.mean(dim=0) if len(changes) else torch.zeros_like(maps)
            maps = torch.cat([maps, change], dim=1)
        return maps.permute(0, 2, 3, 1).contiguous()


def _without_classifier(
    state: Mapping[str, torch.Tensor], network: nn.Module, name: str
) -> tuple[dict[str, torch.Tensor], list[str]]:
    """What a state holds besides the classifier, and the names of the classifier's tensors."""
    own, layers = network.state_dict(), tuple(f"{layer}." for layer in _model(name).classifier)
    left_out = [key for key in state if key not in own and key.startswith(layers)]
    return {key: value for key, value in state.items() if key not in left_out}, left_out


def _converted(state: Mapping[str, torch.Tensor], network: nn.Module, name: str) -> dict[str, torch.Tensor] | None:
    """The state of an original checkpoint by timm's names, if timm can convert it without changing a size.

    timm's function would also make weights for other pictures or patches by interpolation, which no one has asked for.
    """
    convert = vars(sys.modules[type(network).__module__]).get("checkpoint_filter_fn")
    if convert is None:
        return None
    try:
        found: dict[str, torch.Tensor] = convert(dict(state), network)
    except Exception:  # of a file that is none of those that it knows, any
        return None
    # The positions of class token and registers may come or go: they are added to the tokens, or left out.
    allowed = int(getattr(network, "num_prefix_tokens", 0)) * _model(name).channels
    resized = [
        key for key, value in found.items() if key in state and abs(value.numel() - state[key].numel()) > allowed
    ]
    return None if resized else found


def _network(name: str, seed: int) -> nn.Module:
    """An untrained network in evaluation mode, without a classifier, which takes pictures of other sizes if it can."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _created(name)


def _created(name: str) -> nn.Module:
    timm = import_timm()
    try:
        try:
            network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        except TypeError:  # of a network that has no such option
            network = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:
        if "Unknown model" not in str(error) and "Invalid pretrained tag" not in str(error):
            raise
        near = difflib.get_close_matches(name, timm.list_models() + timm.list_pretrained(), n=3)
        hint = f"; similar names: {', '.join(near)}" if near else ""
        raise ConfigError(f"backbone.name: timm {timm.__version__} has no model {name!r} ({error}){hint}") from error
    return network.eval()


@lru_cache(maxsize=8)
def _model(name: str) -> _Model:
    """Found out by running the network without memory for weights or activations."""
    with torch.device("meta"):
        network: Any = _created(name)
        about: Mapping[str, Any] = network.pretrained_cfg
        colours, height, width = about["input_size"]
        if colours != 3:
            raise ConfigError(f"backbone.name: timm:{name} takes pictures of {colours} channels, expected 3")
        cell, channels = int(network.feature_info[-1]["reduction"]), int(network.num_features)
        rows, columns = height // cell, width // cell
        layout, prefix = _layout(network, name, cell, rows, columns, channels)
        if layout != "tokens":  # of a network with strides, not of patches, which leave a part of the picture out
            rows, columns = -(-height // cell), -(-width // cell)
        try:
            any_size = _layout(network, name, cell, rows + 2, columns + 1, channels) == (layout, prefix)
        except ConfigError:
            any_size = False
    red, green, blue = (255 * value for value in about["mean"])
    mean = (red, green, blue)
    red, green, blue = (255 * value for value in about["std"])
    classifier = about.get("classifier") or ()
    return _Model(
        channels=channels,
        cell=cell,
        size=(rows * cell, columns * cell),
        any_size=any_size,
        layout=layout,
        prefix=prefix,
        mean=mean,
        std=(red, green, blue),
        classifier=(classifier,) if isinstance(classifier, str) else tuple(classifier),
    )


def _layout(network: Any, name: str, cell: int, rows: int, columns: int, channels: int) -> tuple[str, int]:
    """How the network returns the features of pictures of rows x columns cells, and the number of prefix tokens.

    Raises:
        ConfigError: it does not take such pictures, or returns no map of so many rows and columns.
    """
    problem = "returns no map"
    try:
        shape = tuple(network.forward_features(torch.zeros(1, 3, rows * cell, columns * cell)).shape)
    except (AssertionError, RuntimeError) as error:
        shape, problem = (), str(error)
    prefix = int(getattr(network, "num_prefix_tokens", 0))
    for layout, expected in (
        ("tokens", (1, prefix + rows * columns, channels)),
        ("channels first", (1, channels, rows, columns)),
        ("channels last", (1, rows, columns, channels)),
    ):
        if shape == expected:
            return layout, prefix if layout == "tokens" else 0
    raise ConfigError(
        f"backbone.name: timm:{name} cannot be used: expected a map of {rows} x {columns} positions of {channels} "
        f"channels of pictures of {rows * cell} x {columns * cell} pixels, got {shape} ({problem})"
    )
