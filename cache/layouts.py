"""Which video each array holds and what its axes are, found by names, shapes and frame counts, or as the layout says.

Features are published as (T, D), (T, crops, D) or (crops, T, D), as one array per crop named `video__0`, `video__1` and
so on, or as many videos in one array. Arrays that can be understood in two ways are an error that says which setting
decides. Everything that was found without a setting is reported in a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cache.arrays import LazyArray
from cache.errors import InvalidImport
from cache.plain import CLIP_AXIS, PlainLayout, PlainVideo, length_problem

__all__ = ["Reading", "read_layout"]

CROPS = (1, 5, 10)  # crops of a picture in published features
CROP_NAMES = (re.compile(r"(.+)__(\d+)", re.DOTALL), re.compile(r"(.+)_(\d+)", re.DOTALL))
"""The second form is looked for only where a list of videos or the layout confirms it: `01_0015` is itself a video."""
SHOWN = 5


@dataclass(frozen=True)
class Reading:
    """How arrays are understood.

    Attributes:
        videos: the videos in the order of the arrays.
        axes: the axes of every array, one of CLIP_AXIS.
        notes: one sentence for everything that was found without a setting.
    """

    videos: tuple[PlainVideo, ...]
    axes: str
    notes: tuple[str, ...]


def read_layout(arrays: Sequence[LazyArray], where: Path, layout: PlainLayout) -> Reading:
    """The videos in a number of arrays, at least one.

    Raises:
        InvalidImport: names, shapes or lengths do not fit (the message lists all that were found together), or the
            arrays can be understood in more than one way.
    """
    notes: list[str] = []
    if layout.axes == "videos,T,D" or layout.order:
        videos, axes = _stacked(arrays, where, layout), "videos,T,D"
    else:
        named = _by_id(arrays, where, layout, notes)
        videos, crops = _crops(named, where, layout, notes)
        _check_shapes([video.arrays for video in videos], where)
        axes = "crop:T,D" if crops else layout.axes or _axes(videos, where, layout, notes)
    videos = list(_chosen(videos, where, layout, notes))
    expected = len(axes.split(",")) if axes != "crop:T,D" else 2
    for video in videos:
        if len(video.arrays[0].shape) != expected or 0 in video.shape:
            raise InvalidImport(f"{where}: {video.video_id}: expected an array ({axes}), got {video.arrays[0].shape}")
    _check_counts(videos, axes, where, layout, notes)
    return Reading(tuple(videos), axes, tuple(notes))


def _stacked(arrays: Sequence[LazyArray], where: Path, layout: PlainLayout) -> list[PlainVideo]:
    array, ids = arrays[0], list(layout.order)
    if layout.axes != "videos,T,D" or not ids:
        raise InvalidImport(f"{where}: an array of many videos needs the layout videos,T,D and their ids in order")
    if len(arrays) > 1:
        raise InvalidImport(f"{where}: expected one array of all videos, got {_some([a.name for a in arrays])}")
    if len(array.shape) != 3 or array.shape[0] != len(ids) or len(set(ids)) < len(ids):
        raise InvalidImport(
            f"{where}: {array.name}: expected an array (videos, T, D) of {len(ids)} different videos, "
            f"got {array.shape} and {len(set(ids))} different ids"
        )
    return [PlainVideo(video_id, (array,), number) for number, video_id in enumerate(ids)]


def _by_id(arrays: Sequence[LazyArray], where: Path, layout: PlainLayout, notes: list[str]) -> dict[str, LazyArray]:
    """Arrays by video id. For arrays in groups, their names or the list of videos show what the ids are."""
    for array in arrays:
        if not array.name.endswith(layout.suffix):
            raise InvalidImport(f"{where}: {array.name}: expected names that end in {layout.suffix!r}")
    names = [array.name.removesuffix(layout.suffix) for array in arrays]
    ids = _ids(names, where, layout.frame_counts, notes) if any("/" in name for name in names) else names
    named: dict[str, LazyArray] = {}
    for video_id, array in zip(ids, arrays, strict=True):
        if video_id in named:
            raise InvalidImport(f"{where}: two arrays are named {video_id}{_places(named[video_id], array)}")
        named[video_id] = array
    return named


def _places(one: LazyArray, other: LazyArray) -> str:
    """Where they are, if they are in two files."""
    return f": {one.path} and {other.path}" if one.path != other.path else ""


def _ids(names: Sequence[str], where: Path, known: Mapping[str, int] | None, notes: list[str]) -> list[str]:
    """The ids of arrays in groups; a group can be a video or something else, such as a class."""
    ways: dict[str, Callable[[str], str]] = {
        "the names of the arrays, without their groups": lambda name: name.rsplit("/", 1)[-1],
        "the names of the groups": lambda name: name.rsplit("/", 1)[0],
        "the names of groups and arrays": lambda name: name,
    }
    readings = {way: [read(name) for name in names] for way, read in ways.items()}
    if known is not None:
        fitting = [way for way, ids in readings.items() if known.keys() >= set(ids)]
        hint = "no way gives ids that are in the list of videos"
    else:
        arrays, groups = (len(set(readings[way])) for way in list(ways)[:2])
        different, same = arrays == len(names) > 1, groups == len(names) > arrays == 1
        fitting = list(ways)[:1] if different else list(ways)[1:2] if same else []
        hint = "give the list of videos, or the suffix of the names"
    if len(fitting) != 1:
        raise InvalidImport(
            f"{where}: are groups or arrays named by the videos ({_some(names)})? It cannot be told: {hint}"
        )
    notes.append(f"video ids are {fitting[0]}: {names[0]} is {readings[fitting[0]][0]}")
    return readings[fitting[0]]


def _crops(
    named: Mapping[str, LazyArray], where: Path, layout: PlainLayout, notes: list[str]
) -> tuple[list[PlainVideo], bool]:
    """The videos, and whether they have an array for every crop."""
    single = [PlainVideo(video_id, (array,)) for video_id, array in named.items()]
    matches = _crop_names(named, layout)
    listed = layout.frame_counts is not None and layout.frame_counts.keys() >= named.keys()
    told = layout.axes == "crop:T,D"
    if (layout.axes and not told) or (listed and not told) or not any(matches.values()):
        if told:
            raise InvalidImport(
                f"{where}: expected names that end in a crop's number, such as v1__0, got {_some(named)}"
            )
        return single, False
    groups: dict[str, dict[int, LazyArray]] = {}
    for name, match in matches.items():
        if not match:
            raise InvalidImport(f"{where}: some names end in a crop's number and {name} does not: give the layout")
        groups.setdefault(match[1], {})[int(match[2])] = named[name]
    count = max(len(crops) for crops in groups.values())
    for video_id, crops in groups.items():
        if sorted(crops) != list(range(count)):
            raise InvalidImport(
                f"{where}: {video_id}: expected the crops 0 to {count - 1}, got {', '.join(map(str, sorted(crops)))}"
            )
    if count == 1 and not told:
        raise InvalidImport(
            f"{where}: all names end in __0: give the layout crop:T,D, or __0 as the suffix of the names"
        )
    if not told:
        first, crops = next(iter(groups.items()))
        names = f"{crops[0].name} to {crops[count - 1].name}"
        notes.append(f"names end in the numbers of {count} crops: {names} are {first}")
    return [PlainVideo(video_id, tuple(crops[n] for n in range(count))) for video_id, crops in groups.items()], True


def _crop_names(names: Collection[str], layout: PlainLayout) -> dict[str, re.Match[str] | None]:
    """Each name as that of a video and the number of a crop, in the form that fits; None where none does."""
    double, single = ({name: form.fullmatch(name) for name in names} for form in CROP_NAMES)
    if any(double.values()) or not all(single.values()):
        return double
    known = layout.frame_counts or {}
    confirmed = known.keys() >= {match[1] for match in single.values() if match} and not known.keys() & set(names)
    return single if confirmed or layout.axes == "crop:T,D" else double


def _chosen(videos: Sequence[PlainVideo], where: Path, layout: PlainLayout, notes: list[str]) -> tuple[PlainVideo, ...]:
    """The videos to import; those that are listed and shall not be imported are left aside."""
    if layout.videos is None:
        return tuple(videos)
    wanted, known = set(layout.videos), layout.frame_counts or {}
    chosen = tuple(video for video in videos if video.video_id in wanted or video.video_id not in known)
    if aside := len(videos) - len(chosen):
        notes.append(f"{aside} video(s) are listed and not of the chosen split: left aside")
    if missing := sorted(wanted - {video.video_id for video in chosen}):
        notes.append(f"warning: {len(missing)} of {len(wanted)} video(s) have no features here: {_some(missing)}")
    if not chosen:
        raise InvalidImport(f"{where}: expected features of {_some(sorted(wanted)) or 'some videos'}, found none")
    return chosen


def _check_shapes(arrays: Sequence[Sequence[LazyArray]], where: Path) -> None:
    """Check that all arrays have as many axes and as many channels, and that those of one video are alike."""
    first = arrays[0][0]
    for group in arrays:
        for array in group:
            if len(array.shape) not in (2, 3, 5) or 0 in array.shape:
                forms = ", ".join(f"({axes})" for axes in CLIP_AXIS)
                raise InvalidImport(
                    f"{where}: {array.name}: expected an array of one of the forms {forms}, got {array.shape}"
                )
            if len(array.shape) != len(first.shape) or array.shape[-1] != first.shape[-1]:
                what = f"{first.shape} in {first.name}, {array.shape} in {array.name}"
                raise InvalidImport(f"{where}: expected as many axes in all arrays, the last of one size, got {what}")
            if (array.shape, array.dtype) != (group[0].shape, group[0].dtype):
                what = f"{group[0].shape} in {group[0].name}, {array.shape} in {array.name}"
                raise InvalidImport(f"{where}: expected crops of one shape and type, got {what}")


def _axes(videos: Sequence[PlainVideo], where: Path, layout: PlainLayout, notes: list[str]) -> str:
    """The axes of arrays where no setting says them."""
    shapes = {video.video_id: video.shape for video in videos}
    axes = len(next(iter(shapes.values())))
    if axes != 3:
        return "T,D" if axes == 2 else "V,T,H,W,D"
    forms = {0: "crops,T,D", 1: "T,crops,D"}  # by the axis of the crops
    sizes = {axis: {shape[axis] for shape in shapes.values()} for axis in forms}
    fitting = [axis for axis in forms if len(sizes[axis]) == 1 and sizes[axis] <= set(CROPS)]
    why = "crops are the axis of the same size, 1, 5 or 10, in all arrays"
    if layout.frame_counts is not None and not layout.equal_parts:
        counts = {video_id: layout.frame_counts.get(video_id) for video_id in shapes}
        fits = [
            axis
            for axis in forms
            if len(sizes[axis]) == 1
            and not any(n and length_problem(shapes[v][1 - axis], layout.frames_per_clip, n) for v, n in counts.items())
        ]
        if len(fits) == 1:
            fitting, why = fits, "clips are the axis that fits the frame counts"
    example, shape = next(iter(shapes.items()))
    if len(fitting) != 1:
        several = "; or it holds many videos: layout videos,T,D and their order" if len(videos) == 1 else ""
        raise InvalidImport(
            f"{where}: {example}: {shape} may be (T, crops, D) or (crops, T, D): "
            f"give the layout T,crops,D or crops,T,D{several}"
        )
    notes.append(f"arrays are read as ({forms[fitting[0]]}), {example} has {shape}: {why}")
    return forms[fitting[0]]


def _check_counts(videos: Sequence[PlainVideo], axes: str, where: Path, layout: PlainLayout, notes: list[str]) -> None:
    """Check that every video is in the list and has its number of frames. Raises InvalidImport naming the others."""
    if layout.frame_counts is None:
        return
    problems, unknown = [], []
    for video in videos:
        frames, clips = layout.frame_counts.get(video.video_id), video.shape[CLIP_AXIS[axes]]
        if frames is None:
            problems.append(f"{video.video_id}: is not in the list of videos{_hint(video.video_id, layout)}")
        elif not frames and layout.equal_parts:
            problems.append(f"{video.video_id}: its number of frames is not known")
        elif not frames:
            unknown.append(video.video_id)
        elif not layout.equal_parts and (problem := length_problem(clips, layout.frames_per_clip, frames)):
            problems.append(f"{video.video_id}: {problem}")
    if layout.equal_parts and len(lengths := {video.shape[CLIP_AXIS[axes]] for video in videos}) > 1:
        problems.append(
            f"equal parts: expected the same number of rows in all videos, got {_some(map(str, sorted(lengths)))}"
        )
    if unknown:
        notes.append(f"the lengths of {len(unknown)} video(s) are not known and not checked: {_some(unknown)}")
    if problems:
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InvalidImport(f"{where}: {len(problems)} problem(s)\n  " + "\n  ".join(problems[:SHOWN]) + more)


def _hint(video_id: str, layout: PlainLayout) -> str:
    """A listed id that may be meant; empty where none is like it."""
    known = {name.casefold(): name for name in layout.frame_counts or {}}
    if video_id.casefold() in known:
        return f", which has {known[video_id.casefold()]}"
    longer = [name for name in known.values() if video_id.startswith(name) or name.startswith(video_id)]
    return f", which has {longer[0]}: see the suffix of the names, and the layout" if len(longer) == 1 else ""


def _some(names: Iterable[str]) -> str:
    """The first few names, as a list in a message."""
    listed = list(names)
    return ", ".join(listed[:SHOWN]) + (", ..." if len(listed) > SHOWN else "")
