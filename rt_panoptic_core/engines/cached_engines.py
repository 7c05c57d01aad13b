"""What is in the engine cache: what each engine is for, when it was used, and whether it still fits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rt_panoptic_core.engines import hardware
from rt_panoptic_core.engines.cache import cache_folder, package_identity
from rt_panoptic_core.engines.engine_file import EngineFileError, check_identity, read_identity
from rt_panoptic_core.errors import EngineError

_FIELDS = 6
"""Of an engine's name: model, digest, size, engine, precision, device."""


@dataclass(frozen=True)
class CachedEngine:
    """An engine in the cache.

    Attributes:
        path: of the file.
        label: model, size, engine, precision and device.
        bytes: its size.
        last_used: when it was built or opened last, in seconds since 1970.
        stale: why it would be built again here; None where it would not, as far as can be known.
    """

    path: Path
    label: str
    bytes: int
    last_used: float
    stale: str | None


def cached_engines() -> list[CachedEngine]:
    """The engines in the cache, by name; what another process removes meanwhile is left out.

    Raises:
        OSError: the cache's folder cannot be read.
    """
    folder = cache_folder()
    found = []
    for path in sorted(folder.glob("*.engine")) if folder.is_dir() else []:
        # A process is writing it, or was killed while it did.
        if path.name.startswith("."):
            continue
        try:
            status = path.stat()
            stale = _why_stale(path)
        except FileNotFoundError:
            continue
        found.append(CachedEngine(path, _label(path), status.st_size, status.st_mtime, stale))
    return found


def _label(path: Path) -> str:
    fields = path.stem.rsplit("-", _FIELDS - 1)
    if len(fields) != _FIELDS:
        return path.name
    model, _, *rest = fields
    return " ".join((model, *rest))


def _why_stale(path: Path) -> str | None:
    try:
        identity = read_identity(path)
        engine = identity.get("engine", "")
        wanted = {"package": package_identity()}
        if library := _library(engine):
            wanted["library"] = library
        if engine == "tensorrt" and (devices := hardware.cuda_device_names()):
            if identity.get("device") in devices:
                wanted.update(hardware.device_identity(f"cuda:{devices.index(identity['device'])}"))
            else:
                wanted.update(hardware.device_identity("cuda:0"))
        check_identity(identity, wanted)
    except FileNotFoundError:
        raise
    except EngineFileError as error:
        return str(error)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return None


@cache
def _library(engine: str) -> str | None:
    """What runs ``engine`` here, as engine files name it; None where nothing does that can be imported."""
    try:
        if engine == "openvino" and hardware.missing_openvino() is None:
            from rt_panoptic_core.engines.openvino_engine import LIBRARY

            return LIBRARY
        if engine == "tensorrt" and hardware.tensorrt_module() is not None:
            from rt_panoptic_core.engines.tensorrt_engine import library_name, load_module

            return library_name(load_module())
    except (EngineError, ImportError, OSError):
        pass
    return None
