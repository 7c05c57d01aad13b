"""Engine files: what is read is what was written, or a reason."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rt_panoptic_core.engines.engine_file import (
    ANY,
    MAGIC,
    EngineFileError,
    read_engine_file,
    read_identity,
    write_engine_file,
)

IDENTITY = {"checkpoint": "abc", "library": "OpenVINO 1", "device": "CPU"}
SECTIONS = {"network.xml": b"<net/>", "network.bin": bytes(range(256)) * 4}


@pytest.fixture
def engine(tmp_path):
    path = tmp_path / "a.engine"
    write_engine_file(path, IDENTITY, SECTIONS)
    return path


def test_round_trip(engine):
    assert read_engine_file(engine, IDENTITY) == SECTIONS
    assert read_identity(engine) == IDENTITY
    assert engine.read_bytes().startswith(MAGIC)


def test_what_differs_is_named(engine):
    with pytest.raises(EngineFileError, match="built for library OpenVINO 1, wanted is OpenVINO 2"):
        read_engine_file(engine, {**IDENTITY, "library": "OpenVINO 2"})
    with pytest.raises(EngineFileError, match="built for driver unknown"):
        read_engine_file(engine, {**IDENTITY, "driver": "550"})


def test_any_fits_every_machine(tmp_path):
    path = tmp_path / "portable.engine"
    write_engine_file(path, {**IDENTITY, "device": ANY}, SECTIONS)
    assert read_engine_file(path, {**IDENTITY, "device": "RTX 4090"}) == SECTIONS


@pytest.mark.parametrize("kept", [0, 5, len(MAGIC), len(MAGIC) + 3, len(MAGIC) + 40, -1])
def test_truncated(engine, kept):
    engine.write_bytes(engine.read_bytes()[:kept])
    with pytest.raises(EngineFileError, match=r"truncated|damaged|no engine"):
        read_engine_file(engine, IDENTITY)


def test_a_flipped_bit_in_the_weights(engine):
    data = bytearray(engine.read_bytes())
    data[-7] ^= 1
    engine.write_bytes(bytes(data))
    with pytest.raises(EngineFileError, match="corrupted"):
        read_engine_file(engine, IDENTITY)


def test_other_files(tmp_path):
    path = tmp_path / "notes.engine"
    path.write_text("shopping list")
    with pytest.raises(EngineFileError, match="no engine of this version"):
        read_engine_file(path, IDENTITY)
    with pytest.raises(FileNotFoundError):
        read_engine_file(tmp_path / "missing.engine", IDENTITY)
    with pytest.raises(EngineFileError, match="cannot be read"):
        read_engine_file(tmp_path, IDENTITY)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(place=st.integers(0, 10_000), value=st.integers(1, 255))
def test_any_changed_byte_is_noticed_or_harmless(engine, place, value):
    """Whatever byte changes, nothing else than the written sections is ever returned."""
    original = engine.read_bytes()
    data = bytearray(original)
    data[place % len(data)] ^= value
    engine.write_bytes(bytes(data))
    try:
        assert list(read_engine_file(engine, IDENTITY).values()) == list(SECTIONS.values())
    except EngineFileError:
        pass
    finally:
        engine.write_bytes(original)
