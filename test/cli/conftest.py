import pytest


@pytest.fixture(autouse=True)
def _decoders_stay_as_they_are(monkeypatch):
    """Commands run in the tests' own process, whose other tests want to hear OpenCV."""
    monkeypatch.setattr("rt_panoptic_core.cli.segment.quiet_decoders", lambda: None)
