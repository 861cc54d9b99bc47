"""Opening a file that may be a video: FFmpeg reads that file and no other, and no picture larger than allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from av.stream import Disposition

from pipeline.errors import DecodeError

__all__ = ["MAX_PIXELS", "MEGAPIXEL", "complaint", "opened", "reason"]

MEGAPIXEL = 1 << 20
MAX_PIXELS = 64 * MEGAPIXEL

# Formats that hold a video, or one picture, in the file itself. Left out are those that name other files or addresses (playlists,
# lists to be joined, numbered images, manifests of streams), devices, and formats of sound and subtitles.
FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,asf,flv,live_flv,kux,ogg,rm,wtv,mxf,gxf,nut,nsv,nuv,dv,dhav,ifv,lmlm4,luodat,pva,ty,swf,"
    "ivf,obu,av1,h261,h263,h264,hevc,vvc,evc,m4v,mpegvideo,mjpeg,mpjpeg,vc1,vc1test,cavsvideo,avs,avs2,avs3,dirac,dnxhd,"
    "yuv4mpegpipe,smjpeg,mjpeg_2000,cine,r3d,mlv,ser,bink,roq,film_cpk,flic,gif,apng,webp_anim,"
    "bmp_pipe,jpeg_pipe,png_pipe,tiff_pipe,webp_pipe"
)
# Of a picture by its first bytes: FFmpeg would go by the name too, and take `%d` or `*` in it for a pattern of other files.
PICTURES = {
    re.compile(rb"\xff\xd8\xff"): "jpeg_pipe",
    re.compile(rb"\x89PNG\r\n\x1a\n"): "png_pipe",
    re.compile(rb"BM"): "bmp_pipe",
    re.compile(rb"II\*\0|MM\0\*"): "tiff_pipe",
    re.compile(rb"RIFF....WEBP", re.DOTALL): "webp_pipe",
    re.compile(rb"GIF8"): "gif",
}
TOO_LARGE = re.compile(r"Picture size (\d+)x(\d+) (?:exceeds specified max pixel count|is invalid)")
NOT_LISTED = "Format not on whitelist"


@contextmanager
def opened(
    path: Path, *, max_pixels: int = MAX_PIXELS, picture: bool = False
) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """An open container and its best video stream.

    Args:
        path: a regular file of any name; links are followed.
        max_pixels: width x height of the largest picture that is decoded.
        picture: the file is one picture, of whatever suffix.

    Raises:
        DecodeError: it is missing, empty, no file, not a video, names other files, or its pictures are too large.
    """
    _check_file(path)
    format_name = _picture_format(path) if picture else None
    try:
        container = _open(path, max_pixels, format_name)
    except (av.error.FFmpegError, ValueError) as error:
        what = complaint(path, max_pixels, format_name) or f"not a video that FFmpeg can open: {reason(error)}"
        raise DecodeError(f"{path}: {what}") from error
    with container:
        stream = container.streams.best("video")
        if stream is None or stream.disposition & Disposition.attached_pic:
            kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
            raise DecodeError(f"{path}: expected a video stream, the file holds {kinds}")
        context = stream.codec_context
        if context is None:
            raise DecodeError(f"{path}: FFmpeg has no decoder for the file's video")
        if context.width * context.height > max_pixels:
            raise DecodeError(f"{path}: {_too_large(context.width, context.height, max_pixels)}")
        if not context.width and (what := complaint(path, max_pixels, format_name)):
            raise DecodeError(f"{path}: {what}")
        context.options = context.options | _options(max_pixels)  # pictures may grow within a video
        yield container, stream


def reason(error: Exception) -> str:
    """FFmpeg's message without its number and the path, which ours has already."""
    return str(getattr(error, "strerror", None) or error)


def complaint(path: Path, max_pixels: int, format_name: str | None = None) -> str | None:
    """Why FFmpeg refuses a file, where it is for one of our limits. Its errors do not say: the file is opened again for the log."""
    with _logged() as lines, suppress(av.error.FFmpegError, ValueError):
        _open(path, max_pixels, format_name).close()
    for _, name, message in lines:
        if NOT_LISTED in message:
            return f"expected a file that holds a video itself, got format {name!r}, which may name other files; they are not read"
        if (size := TOO_LARGE.search(message)) and int(size[1]) * int(size[2]) > max_pixels:
            return _too_large(int(size[1]), int(size[2]), max_pixels)
    return None


def _too_large(width: int, height: int, max_pixels: int) -> str:
    sizes = f"{width} x {height} are {width * height / MEGAPIXEL:.0f} megapixels"
    return f"its pictures are too large: {sizes}, decoding.max_megapixels allows {max_pixels / MEGAPIXEL:g}"


@contextmanager
def _logged() -> Iterator[list[tuple[int, str, str]]]:
    """The errors that FFmpeg logs in the `with` block: (level, who says it, message)."""
    level, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_skip_repeated(False)  # else what it said of the file before would be left out
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as lines:
            yield lines
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeated)


def _check_file(path: Path) -> None:
    try:
        if not path.exists():
            raise DecodeError(f"{path}: " + ("the link leads nowhere, or in a circle" if path.is_symlink() else "no such file"))
        if not path.is_file():
            raise DecodeError(f"{path}: expected a regular file, got a folder, pipe or device")
        if path.stat().st_size == 0:
            raise DecodeError(f"{path}: the file is empty")
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read: {reason(error)}") from error


def _picture_format(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            start = stream.read(12)
    except OSError as error:
        raise DecodeError(f"{path}: cannot be read: {reason(error)}") from error
    for signature, name in PICTURES.items():
        if signature.match(start):
            return name
    raise DecodeError(f"{path}: expected a picture, its first bytes are those of no JPEG, PNG, BMP, TIFF, WebP or GIF")


def _open(path: Path, max_pixels: int, format_name: str | None) -> av.container.InputContainer:
    return av.open(
        f"file:{path}",  # else a name with a colon would begin with a protocol
        format=format_name,
        metadata_errors="replace",
        options=_options(max_pixels),
        container_options={"protocol_whitelist": "file", "format_whitelist": FORMATS},
    )


def _options(max_pixels: int) -> dict[str, str]:
    # FFmpeg counts a picture with the margins that its decoder needs: sides are multiples of up to 128 pixels there.
    return {"max_pixels": str(max_pixels + max_pixels // 16 + (1 << 16))}
