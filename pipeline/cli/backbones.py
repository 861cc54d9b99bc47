"""`gig backbones`: what can be named as a backbone, and what it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from pipeline.cli.shared import aligned, with_json
from pipeline.config.backbone_names import FAMILIES, TPN_NAMES

if TYPE_CHECKING:
    from pipeline.models.backbones.mmaction_zoo import Recogniser

__all__ = ["backbones"]

CLIP = (6, 5)
"""Frames and distance of the paper's clips."""
HEADER = ("name", "architecture", "channels", "cell", "picture", "clip", "takes frames", "weights, millions")


@click.command()
@click.argument("part", default="")
@click.option("--without-maps", is_flag=True, help="Those of mmaction2 that cannot be used, with the reason.")
@click.option("--markdown", is_flag=True, help="For documents: tables in Markdown.")
@with_json
def backbones(part: str, without_maps: bool, markdown: bool, as_json: bool) -> None:
    """List the backbones that a configuration can name, those with PART in their name or architecture (small letters
    and capitals are the same).

    channels: D of the maps. cell: pixels per position of a map. picture: side in its own configuration; with a + it
    takes all multiples of the cell. clip: frames x distance in its own configuration, or spread over the whole video.
    takes frames: lengths of clips that it takes.
    """
    from pipeline.models.backbones import mmaction_zoo as zoo

    wanted = part.lower()
    known = {
        name: entry
        for name, entry in zoo.recognisers().items()
        if wanted in f"mmaction:{name} {entry.architecture}".lower()
    }
    tpn = [name for name in TPN_NAMES if wanted in name or wanted in "tpn"]
    unusable = {name: reason for name, reason in zoo.without_maps().items() if wanted in f"mmaction:{name}".lower()}
    if part and not (unusable if without_maps else known or tpn):
        click.echo(f"none has {part!r} in its name or architecture; `gig backbones` lists all", err=True)
    if as_json:
        entries: Mapping[str, object] = unusable
        if not without_maps:
            entries = {name: _of_tpn(name) for name in tpn}
            entries |= {f"mmaction:{name}": asdict(entry) for name, entry in known.items()}
        click.echo(json.dumps(entries, indent=2))
        return
    rows = [("name", "reason"), *unusable.items()] if without_maps else _rows(known, tpn)
    for line in _markdown(rows) if markdown else aligned(rows):
        click.echo(line)
    if not (without_maps or markdown):
        click.echo("also:")
        for family, what in FAMILIES.items():
            if family != "mmaction":
                click.echo(f"    {family}:... {what}")


def _of_tpn(name: str) -> dict[str, object]:
    """The facts of one of TPN, by the names of those of a recogniser; the clip is the paper's."""
    from pipeline.config.features import Backbone
    from pipeline.models.backbones import backbone_facts

    facts = backbone_facts(Backbone(name=name, weights="random"))
    return {
        "architecture": "TPN",
        "channels": facts.channels,
        "cell": facts.cell,
        "size": facts.size[0],
        "any_size": facts.any_size,
        "clip": CLIP[0],
        "interval": CLIP[1],
        "shortest": facts.shortest_clip,
        "longest": facts.longest_clip,
        "multiple": facts.clip_multiple,
        "mean": facts.mean,
        "std": facts.std,
        "non_negative": facts.non_negative,
    }


def _rows(known: Mapping[str, Recogniser], tpn: Sequence[str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [HEADER]
    for name in tpn:
        facts = _of_tpn(name)
        takes = f"{facts['shortest']} to {facts['longest']}"
        clip = " x ".join(map(str, CLIP))
        rows.append((name, "TPN", str(facts["channels"]), str(facts["cell"]), f"{facts['size']}+", clip, takes, ""))
    for name, entry in known.items():
        interval = "spread" if entry.interval is None else str(entry.interval)
        rows.append(
            (
                f"mmaction:{name}",
                entry.architecture,
                str(entry.channels),
                str(entry.cell),
                f"{entry.size}+" if entry.any_size else str(entry.size),
                f"{entry.clip} x {interval}",
                _lengths(entry.shortest, entry.longest, entry.multiple),
                f"{entry.parameters:.0f}",
            )
        )
    return rows


def _lengths(shortest: int, longest: int | None, multiple: int) -> str:
    if shortest == longest:
        return str(shortest)
    if multiple > 1:
        return f"{shortest}, {shortest + multiple}, ..."
    return f"from {shortest}" if longest is None else f"{shortest} to {longest}"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]
