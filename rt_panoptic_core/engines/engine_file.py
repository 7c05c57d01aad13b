"""Engine files: a header that says what the engine is for, then the library's own bytes.

Layout: :data:`MAGIC`, the header's length as 8 little-endian bytes, the header as JSON (``identity``, and
name, length and SHA-256 of every section), then the sections. Nothing of a file is handed to an engine
library before its digest is checked: some libraries crash on a damaged engine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rt_panoptic_core.errors import EngineError
from rt_panoptic_core.files import replaced_when_complete

MAGIC = b"rt_panoptic engine 1\n"

ANY = "any"
"""Value of an identity's field that fits every machine."""

_MAX_HEADER = 1 << 20


class EngineFileError(EngineError):
    """An engine file cannot be used: why, in words that fit after its name."""


def write_engine_file(
    path: str | os.PathLike[str], identity: Mapping[str, str], sections: Mapping[str, bytes]
) -> None:
    """Write an engine file to ``path`` atomically.

    Raises:
        OSError: the file cannot be written.
    """
    header = json.dumps(
        {
            "identity": dict(identity),
            "sections": [
                {"name": name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
                for name, data in sections.items()
            ],
        }
    ).encode()
    with replaced_when_complete(path) as temporary, temporary.open("wb") as file:
        file.write(MAGIC)
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        for data in sections.values():
            file.write(data)


def read_engine_file(path: str | os.PathLike[str], identity: Mapping[str, str]) -> dict[str, bytes]:
    """Sections of the engine file at ``path``, if it is whole and was built for ``identity``.

    Raises:
        EngineFileError: it is not; the message says which of the two, and what differs.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            header = _read_header(file.read(len(MAGIC)), file.read(8), file.read)
            check_identity(header["identity"], identity)
            sections = {}
            for section in header["sections"]:
                data = file.read(section["bytes"])
                if len(data) != section["bytes"]:
                    raise EngineFileError("the file is truncated")
                if hashlib.sha256(data).hexdigest() != section["sha256"]:
                    raise EngineFileError("the file is corrupted (a checksum differs)")
                sections[section["name"]] = data
            return sections
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EngineFileError(f"the file cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise EngineFileError("the file's header is damaged") from error


def read_identity(path: str | os.PathLike[str]) -> dict[str, str]:
    """What the engine file at ``path`` was built for, unchecked beyond its header.

    Raises:
        EngineFileError: not an engine file.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        header = _read_header(file.read(len(MAGIC)), file.read(8), file.read)
    try:
        return {str(name): str(value) for name, value in header["identity"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise EngineFileError("the file's header is damaged") from error


def _read_header(magic: bytes, length: bytes, read: Callable[[int], bytes]) -> Any:
    if magic != MAGIC:
        raise EngineFileError("the file is no engine of this version of the package")
    size = int.from_bytes(length, "little")
    if len(length) != 8 or not 0 < size <= _MAX_HEADER:
        raise EngineFileError("the file's header is damaged")
    text = read(size)
    if len(text) != size:
        raise EngineFileError("the file is truncated")
    try:
        return json.loads(text)
    # Brackets in brackets, a thousand deep, are no header of ours either.
    except (ValueError, RecursionError) as error:
        raise EngineFileError("the file's header is damaged") from error


def check_identity(built: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    """Accept an engine whose identity is ``built`` where ``wanted`` is asked for.

    Raises:
        EngineFileError: a field of ``wanted`` differs; it is named.
    """
    for field, value in wanted.items():
        found = built.get(field)
        if found not in (value, ANY):
            raise EngineFileError(f"built for {field} {_short(found)}, wanted is {_short(value)}")


def _short(value: str | None) -> str:
    if value is None:
        return "unknown"
    return value if len(value) <= 48 else f"{value[:45]}..."
