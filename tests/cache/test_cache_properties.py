"""What must hold for any name and any record, tried on generated ones."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from cache.errors import InvalidName, InvalidRecord
from cache.names import escape, is_hashed, unescape
from cache.record import CommitRecord

NAMES = st.text(min_size=1)  # surrogates are not among them; the undecodable bytes of file names below are
BYTES = st.binary(min_size=1).map(lambda data: data.decode("utf-8", "surrogateescape"))
SIZES = st.integers(1, 5)
TEXT = st.text(max_size=8)
DETAILS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(NAMES | BYTES)
@example("..")
@example("A" * 181)
def test_a_key_is_a_plain_file_name_and_leads_back_to_its_id(name):
    key = escape(name)
    assert re.fullmatch(r"[a-z0-9=~_-][a-z0-9=~._-]{0,179}", key)
    if is_hashed(key):
        with pytest.raises(InvalidName):
            unescape(key)
    else:
        assert unescape(key) == name


@given(NAMES, NAMES)
@example("a", "A")
@example("=41", "A")
def test_two_ids_never_share_a_key(one, other):
    assume(one != other)
    assert escape(one) != escape(other)


@given(st.text())
def test_a_text_that_is_no_key_is_refused_rather_than_read_as_another_id(text):
    try:
        name = unescape(text)
    except InvalidName:
        return
    assert escape(name) == text


@st.composite
def records(draw: st.DrawFn) -> CommitRecord:
    views, clips, rows, columns, channels, frames, times = (draw(SIZES) for _ in range(7))
    shapes = {"features": (views, clips, rows, columns, channels), "cue": (views, channels)}
    shapes |= {"frames": (views, clips, frames), "times": (times,)}
    checksum = st.integers(0, 2**32 - 1).map(lambda number: f"{number:08x}")
    sums = {name: tuple(draw(checksum) for _ in range(views if name == "features" else 1)) for name in shapes}
    documents = ["zarr.json", *(f"{name}/zarr.json" for name in shapes)]
    return CommitRecord(
        video_id=draw(st.text(min_size=1, max_size=20)),
        namespace="ns",
        payload="payloads/v/019a2b3c4d5-0123456789abcdef",
        shapes=shapes,
        dtype=draw(st.sampled_from(["float16", "float32"])),
        chunk_clips=draw(SIZES),
        metadata_sha256={
            name: draw(st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")) for name in documents
        },
        values_crc32c=sums,
        provenance=draw(st.dictionaries(TEXT, DETAILS, max_size=4)),
        created="2026-01-01T00:00:00+00:00",
    )


@given(records())
def test_a_record_survives_its_text(record):
    assert CommitRecord.from_json(record.to_json(), "here") == record


@given(records(), st.data())
def test_a_record_with_one_changed_character_is_refused(record, data):
    text = record.to_json()
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.characters(codec="ascii").filter(lambda found: found != text[place]))
    with pytest.raises(InvalidRecord, match="here"):
        CommitRecord.from_json(text[:place] + letter + text[place + 1 :], "here")
