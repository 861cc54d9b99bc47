"""The tables of docs/mmaction-zoo.md are what `gig backbones` prints."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.main import main

DOCUMENT = Path(__file__).parents[2] / "docs" / "mmaction-zoo.md"


@pytest.mark.parametrize("options", [(), ("--without-maps",)])
def test_the_tables_are_those_of_the_command(options):
    result = CliRunner().invoke(main, ["backbones", "mmaction:", "--markdown", *options])
    assert result.exit_code == 0, result.output
    assert result.output.count("\n") > 10 - 5 * len(options)
    assert result.output in DOCUMENT.read_text(encoding="utf-8")
