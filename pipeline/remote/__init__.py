"""Videos in a storage that fsspec reaches: paths of URLs, and reading them in pieces, without a copy."""

from pipeline.remote.copies import Copies
from pipeline.remote.file import RemoteFile
from pipeline.remote.listing import common_folder, is_web, looked_up
from pipeline.remote.path import VERSIONS, AnyPath, Facts, RemotePath, folder_version, path_of
from pipeline.remote.storage import VARIABLE, WEB, public, scheme_of, when_waiting

__all__ = [
    "VARIABLE",
    "VERSIONS",
    "WEB",
    "AnyPath",
    "Copies",
    "Facts",
    "RemoteFile",
    "RemotePath",
    "common_folder",
    "folder_version",
    "is_web",
    "looked_up",
    "path_of",
    "public",
    "scheme_of",
    "when_waiting",
]
