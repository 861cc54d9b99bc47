"""Opening a file that may be a video, and reading nothing but that file.

FFmpeg gets an open file, never a name: it cannot misread names with colons, percent signs or blanks, and has no
protocol, so a playlist cannot make it read other files. The size of the pictures is checked before memory is allocated
for them.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import av
import av.logging
from av.stream import Disposition

from pipeline.errors import DecodeError
from pipeline.remote import AnyPath, RemoteFile, RemotePath

__all__ = ["MAX_PIXELS", "check_pixels", "limit_pixels", "opened", "reason"]

MAX_PIXELS = 64_000_000

# Demuxers that find a video in one file: no playlists, no lists of images, no session descriptions, no devices.
FORMATS = (
    "3dostr,4xm,amv,apng,argo_brp,asf,asf_o,av1,avi,avs,avs2,avs3,bink,cavsvideo,cine,dhav,dirac,dnxhd,dv,dxa,evc,"
    "film_cpk,flic,flv,gif,gxf,h261,h263,h264,hevc,ingenient,ipmovie,ipu,iv8,ivf,jpegxl_anim,jv,kux,live_flv,lmlm4,luodat,lvf,lxf,m4v,matroska,mgsts,"
    "mjpeg,mjpeg_2000,moflex,mov,mp4,mpeg,mpegts,mpegtsraw,mpegvideo,mpjpeg,mtv,mv,mxf,mxg,nc,nsv,nut,nuv,obu,ogg,pva,r3d,rl2,rm,"
    "roq,ser,smk,swf,thp,ty,vc1,vc1test,vividas,vivo,vvc,webm,wtv,xmv,yop,yuv4mpegpipe,"
    "bmp_pipe,gif_pipe,j2k_pipe,jpeg_pipe,jpegls_pipe,jpegxl_pipe,png_pipe,tiff_pipe,webp_pipe"
)
NONE = "none"  # the name of no protocol and of no decoder
PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""Suffixes by which FFmpeg takes a file for a numbered list of pictures."""
PICTURE = "picture"
BUFFER_BYTES = 1 << 18

av.logging.set_level(av.logging.PANIC)  # nothing is printed, and errors carry what FFmpeg logged before it gave up

_max_pixels = MAX_PIXELS


def limit_pixels(pixels: int) -> None:
    """Set how many pixels a picture may have, in this process from now on; before it is MAX_PIXELS.

    Where a file does not state the size, FFmpeg rounds widths up to a multiple of 64 before it compares.
    """
    global _max_pixels
    _max_pixels = pixels


def check_pixels(path: AnyPath, width: int, height: int, what: str = "its pictures are") -> None:
    """Raise DecodeError for pictures of more pixels than are allowed.

    Args:
        path: the video.
        width, height: pixels.
        what: what has that size, in the error.
    """
    if width * height > _max_pixels:
        raise DecodeError(f"{path}: {what} {_too_large(f'{width} x {height}')}")


@contextmanager
def opened(path: AnyPath) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """An open container and its best video stream. Raises DecodeError, and StorageError for a storage that fails."""
    with _file(path) as file:
        if file.name != PICTURE:
            # To find out what a file holds FFmpeg decodes pictures, in some containers without a limit. So the file is
            # first opened without decoders.
            with av.logging.Capture(), _container(path, file, codec_whitelist=NONE) as undecoded:
                for listed in undecoded.streams.video:
                    if not listed.disposition & Disposition.attached_pic:
                        check_pixels(path, listed.width, listed.height)
            file.seek(0)
        with _container(path, file) as container:
            stream = container.streams.best("video")
            if not isinstance(stream, av.VideoStream) or stream.disposition & Disposition.attached_pic:
                kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise DecodeError(f"{path}: expected a video stream, the file holds {kinds}")
            if stream.codec_context is None:
                raise DecodeError(f"{path}: FFmpeg has no decoder for its video")
            check_pixels(path, stream.width, stream.height)
            stream.codec_context.options = _limit()
            yield container, stream


def _container(path: AnyPath, file: _File | RemoteFile, **options: str) -> av.container.InputContainer:
    whitelists = {"protocol_whitelist": NONE, "format_whitelist": FORMATS} | options
    try:
        return av.open(
            file,
            "r",
            options=_limit(),
            container_options=whitelists,
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
        )
    except (av.error.FFmpegError, ValueError) as error:
        raise DecodeError(f"{path}: not a video that FFmpeg can open: {reason(error)}") from error


def _limit() -> dict[str, str]:
    return {"max_pixels": str(_max_pixels)}


def reason(error: Exception) -> str:
    """FFmpeg's message without its number and the path, which ours has already."""
    log = getattr(error, "log", None)
    said = log[2].strip() if log else ""
    if "not on whitelist" in said:
        return "its format is not one that is read (playlists and lists of other files are none)"
    if said.startswith("Picture size ") and "exceeds specified max pixel count" in said:
        return f"a picture is {_too_large(said.split()[2].replace('x', ' x '))}"
    if said == "Invalid image size":  # of a PNG
        allowed = f"decoding.max_megapixels allows {_max_pixels / 1e6:g} million pixels"
        return f"a picture's size is none that can be decoded; {allowed}"
    return str(getattr(error, "strerror", None) or error)


def _too_large(size: str) -> str:
    return f"{size} pixels; decoding.max_megapixels allows {_max_pixels / 1e6:g} million"


class _File(io.FileIO):
    """A file whose reading errors FFmpeg passes on as its own."""

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            return super().read(size)
        except OSError as error:
            raise av.error.FFmpegError(error.errno or errno.EIO, error.strerror or str(error)) from error


@contextmanager
def _file(path: AnyPath) -> Iterator[_File | RemoteFile]:
    """The file, open. Raises DecodeError, and StorageError.

    FFmpeg sees no name but a video's suffix, which helps it to tell formats apart.
    """
    file = _remote_file(path) if isinstance(path, RemotePath) else _local_file(path)
    file.name = PICTURE if path.suffix.lower() in PICTURES else f"video{path.suffix}"
    try:
        with closing(file):
            yield file
    except Exception:
        # FFmpeg may have taken a failure of the storage for the end of the file, and complain of that.
        if isinstance(file, RemoteFile):
            file.check()
        raise


def _local_file(path: Path) -> _File:
    try:
        facts = os.stat(path)
        file = _File(path) if stat.S_ISREG(facts.st_mode) else None  # a pipe would be waited for
    except FileNotFoundError as error:
        raise DecodeError(f"{path}: no such file") from error
    except OSError as error:
        raise DecodeError(f"{path}: cannot be opened: {error.strerror}") from error  # a loop of links among them
    if file is None:
        got = "a folder" if stat.S_ISDIR(facts.st_mode) else "a pipe or a device"
        raise DecodeError(f"{path}: expected a file, got {got}")
    if facts.st_size == 0:
        file.close()
        raise DecodeError(f"{path}: the file is empty")
    return file


def _remote_file(path: RemotePath) -> RemoteFile:
    if not path.exists():
        raise DecodeError(f"{path}: no such file")
    if path.is_dir():
        raise DecodeError(f"{path}: expected a file, got a folder")
    if path.stat().st_size == 0:
        raise DecodeError(f"{path}: the file is empty")
    return path.open()
