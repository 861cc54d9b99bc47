"""The backbone and the loading of its weights."""

from __future__ import annotations

import hashlib
import os
import pickle

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer

from pipeline.errors import WeightsError
from pipeline.models import backbone as module
from pipeline.models.backbone import build_backbone
from pipeline.models.weights import BUNDLED, fetch_weights, weights_sha256


def clips(n: int = 2, frames: int = 6, size: int = 224) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, frames, size, size, 3), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def tiny():
    return build_backbone("tpn_tiny", "bundled")


@pytest.fixture(scope="module")
def tiny_state() -> dict[str, torch.Tensor]:
    """A full tpn_tiny recogniser under mmaction2's key names."""
    recognizer = module._build_recognizer("tpn_tiny")
    module._initialise(recognizer, 5)
    return recognizer.state_dict()


def checkpoint(state: dict) -> dict:
    """What mmengine's runner saves: meta, message hub with history and numpy numbers, state."""
    return {
        "meta": {"epoch": 3, "iter": 30, "cfg": "model = dict()", "seed": np.int64(7), "time": "20220913"},
        "message_hub": {"log_scalars": {"train/loss": HistoryBuffer([1.0, 0.5], [1, 1])}, "runtime_info": {"epoch": 3}},
        "state_dict": state,
    }


def save(path, content) -> str:
    torch.save(content, path)
    return str(path)


def test_tiny_gives_full_maps(tiny):
    with torch.inference_mode():
        maps = tiny(clips())
    assert maps.shape == (2, 7, 7, 2048)
    assert maps.dtype == torch.float32
    assert maps.min() >= 0
    assert maps.std() > 0.01
    assert not any(p.requires_grad for p in tiny.parameters())


@pytest.mark.parametrize("frames", [1, 6, 8])
def test_time_is_pooled_away(tiny, frames):
    with torch.inference_mode():
        assert tiny(clips(1, frames, 64)).shape == (1, 2, 2, 2048)


def test_more_than_eight_frames_are_refused(tiny):
    with pytest.raises(ValueError, match="at most 8"), torch.inference_mode():
        tiny(clips(1, 9, 64))


def test_a_clip_does_not_depend_on_its_neighbours(tiny):
    with torch.inference_mode():
        many, one = tiny(clips(3)), tiny(clips(3)[1:2].repeat(3, 1, 1, 1, 1))
    torch.testing.assert_close(many[1], one[1], rtol=1e-5, atol=1e-5)


def test_bundled_weights_are_small_and_hashed(tiny):
    assert BUNDLED["tpn_tiny"].stat().st_size < 2 * 2**20
    assert tiny.weights_sha256 == hashlib.sha256(BUNDLED["tpn_tiny"].read_bytes()).hexdigest()


def test_a_checkpoint_with_mmengine_objects_loads(tmp_path, tiny_state):
    path = save(tmp_path / "model.pth", checkpoint(tiny_state))
    loaded = build_backbone("tpn_tiny", path)
    expected = build_backbone("tpn_tiny", "random", seed=5)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(clips(1)), expected(clips(1)))
    assert loaded.weights_sha256 == weights_sha256(path, "tpn_tiny")


def test_the_suffix_of_a_file_name_is_its_hash(tmp_path, tiny_state):
    path = tmp_path / "model.pth"
    save(path, checkpoint(tiny_state))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    good, bad = tmp_path / f"model-{digest[:8]}.pth", tmp_path / "model-00000000.pth"
    good.write_bytes(path.read_bytes())
    bad.write_bytes(path.read_bytes())
    build_backbone("tpn_tiny", str(good))
    with pytest.raises(WeightsError, match="begins with 00000000"):
        build_backbone("tpn_tiny", str(bad))
    assert fetch_weights(tmp_path / "new", good.as_uri()).read_bytes() == good.read_bytes()
    with pytest.raises(WeightsError, match="begins with 00000000"):
        fetch_weights(tmp_path / "new", bad.as_uri())
    assert [p.name for p in (tmp_path / "new").iterdir()] == [good.name]
    with pytest.raises(WeightsError, match="cannot be downloaded"):
        fetch_weights(tmp_path / "new", (tmp_path / "nowhere.pth").as_uri())


def test_missing_unexpected_and_misshapen_keys_are_named(tmp_path, tiny_state):
    key = next(iter(tiny_state))
    without = {k: v for k, v in tiny_state.items() if k != key}
    for state, message in (
        (without, f"missing {key}"),
        (tiny_state | {"cls_head.fc.weight": torch.zeros(2)}, "unexpected cls_head.fc.weight"),
        (tiny_state | {key: torch.zeros(3)}, rf"{key}: expected .*got \(3,\)"),
    ):
        with pytest.raises(WeightsError, match=message):
            build_backbone("tpn_tiny", save(tmp_path / "model.pth", checkpoint(state)))


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, tiny_state):
    target = tmp_path / "pwned"
    files = [save(tmp_path / "zip.pth", checkpoint(tiny_state) | {"extra": Malicious(target)})]
    (tmp_path / "raw.pth").write_bytes(pickle.dumps({"state_dict": Malicious(target)}))
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for path in (*files, str(tmp_path / "raw.pth"), str(tmp_path / "text.pth")):
        with pytest.raises(WeightsError, match="refused"):
            build_backbone("tpn_tiny", path)
    assert not target.exists()


def test_missing_weights_say_where_to_get_them():
    with pytest.raises(WeightsError, match="gig weights fetch"):
        build_backbone("tpn_slowonly_r50", "weights/nowhere.pth")
    with pytest.raises(WeightsError, match="no bundled weights"):
        build_backbone("tpn_slowonly_r50", "bundled")
    with pytest.raises(WeightsError, match="unknown backbone"):
        build_backbone("tpn_huge", "random")


def test_random_weights_follow_their_seed():
    a, b, c = (build_backbone("tpn_tiny", "random", seed=s).state_dict() for s in (1, 1, 2))
    key = "backbone.conv1.conv.weight"
    assert torch.equal(a[key], b[key])
    assert not torch.equal(a[key], c[key])


@pytest.mark.slow
def test_r50_equals_mmaction2s_own_features(tmp_path):
    """Our output is mmaction2's `extract_feat(stage='neck')`, from a checkpoint of the full recogniser."""
    recognizer = module._build_recognizer("tpn_slowonly_r50")
    module._initialise(recognizer, 3)
    recognizer.eval()
    path = save(tmp_path / "r50.pth", checkpoint(recognizer.state_dict()))
    ours = build_backbone("tpn_slowonly_r50", path)
    batch = clips(1)
    with torch.inference_mode():
        inputs = [c.permute(3, 0, 1, 2)[None] for c in batch]
        data = recognizer.data_preprocessor({"inputs": inputs, "data_samples": [None]}, training=False)
        theirs, _ = recognizer.extract_feat(data["inputs"], stage="neck", test_mode=True)
        expected = theirs[0] if isinstance(theirs, tuple) else theirs
        found = ours(batch)
    assert found.shape == (1, 7, 7, 2048)
    torch.testing.assert_close(found, expected[:, :, 0].permute(0, 2, 3, 1), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.01
