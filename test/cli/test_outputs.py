"""Places for results are tried before the work, and leave nothing behind where none came."""

from contextlib import suppress

import pytest

from rt_panoptic_core.cli.outputs import output_file, output_folder
from rt_panoptic_core.errors import ConfigError


def test_a_folder_with_results_stays(tmp_path):
    with output_folder(tmp_path / "runs/a"):
        (tmp_path / "runs/a/results.json").touch()
    assert (tmp_path / "runs/a/results.json").is_file()


@pytest.mark.parametrize("error", [None, ValueError])
def test_folders_that_stayed_empty_are_gone_again_but_for_those_that_were_there(tmp_path, error):
    (tmp_path / "runs").mkdir()
    with suppress(ValueError), output_folder(tmp_path / "runs/a/b"):
        assert (tmp_path / "runs/a/b").is_dir()
        if error is not None:
            raise error
    assert list(tmp_path.rglob("*")) == [tmp_path / "runs"]


def test_a_folder_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "file/a", "link"):
        with pytest.raises(ConfigError, match=f"{name}: results cannot be written there"):
            output_folder(tmp_path / name).__enter__()
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "link"]


def test_a_file_needs_a_folder_and_is_none(tmp_path):
    with output_file(tmp_path / "new/a.json"):
        (tmp_path / "new/a.json").touch()
    with output_file(tmp_path / "new/a.json"), output_file(None):
        pass
    with pytest.raises(ConfigError, match="new: it is a folder; name a file in it"):
        output_file(tmp_path / "new").__enter__()
    assert (tmp_path / "new/a.json").is_file()
