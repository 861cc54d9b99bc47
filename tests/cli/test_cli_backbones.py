"""`gig backbones`."""

from __future__ import annotations

import json

from click.testing import CliRunner

from pipeline.cli.main import main


def gig(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["backbones", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_backbones_are_listed_with_what_they_take():
    header, *rows = gig("x3d_s").splitlines()
    assert header.split()[:4] == ["name", "architecture", "channels", "cell"]
    assert " ".join(rows[0].split()) == "mmaction:x3d_s_13x6x1_facebook-kinetics400-rgb X3D 432 32 192+ 13 x 6 from 1 2"
    assert any(row.strip().startswith("timm:...") for row in rows[1:])


def test_the_papers_backbone_is_among_them():
    assert any(row.split()[:3] == ["tpn_slowonly_r50", "TPN", "2048"] for row in gig().splitlines())


def test_those_that_cannot_be_used_are_listed_with_the_reason():
    _, row = gig("c3d", "--without-maps").splitlines()
    assert row.split()[0] == "c3d_sports1m-pretrained_8xb30-16x1x1-45e_ucf101-rgb"
    assert row.endswith("it ends in a vector of 4096 numbers, not in a map")


def test_json_has_all_facts():
    (entry,) = json.loads(gig("slowfast_r50_8xb8-4x16", "--json")).values()
    assert (entry["channels"], entry["clip"], entry["interval"], entry["multiple"]) == (2304, 32, 2, 8)


def test_a_part_that_no_backbone_has_is_said():
    result = CliRunner().invoke(main, ["backbones", "nosuch"])
    assert "none has 'nosuch' in its name or architecture" in result.stderr
    assert not CliRunner().invoke(main, ["backbones", "tpn_tiny"]).stderr


def test_capitals_are_small_letters_and_tpn_is_in_the_json():
    assert gig("X3D_S") == gig("x3d_s")
    assert gig("swintransformer3d") == gig("SwinTransformer3D")
    entries = json.loads(gig("TPN", "--json"))
    assert {"tpn_slowonly_r50", "tpn_small", "tpn_tiny"} < set(entries)
    assert (entries["tpn_slowonly_r50"]["channels"], entries["tpn_slowonly_r50"]["longest"]) == (2048, 8)
