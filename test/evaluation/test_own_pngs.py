"""The PNGs of an earlier run: they go, and nothing of anybody else."""

import pytest

from rt_panoptic_core.own_pngs import OwnPngs


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def own(folder, *names):
    return OwnPngs(folder, folder.with_name("out.json.partial"), names)


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("way", ["remove", "settle"])
def test_subfolders_go_with_their_last_png(tmp_path, way):
    folder = tmp_path / "out"
    names = ["a/b/1.png", "a/c/2.png", "d/e/3.png", "4.png"]
    make(folder, *names, "a/c/photo.jpg")
    pngs = own(folder, *names)
    if way == "remove":
        for name in names:
            pngs.remove(name)
    else:
        pngs.settle([], keep_rest=False)
    assert below(folder) == ["a", "a/c", "a/c/photo.jpg"]


def test_the_folder_itself_stays(tmp_path):
    folder = tmp_path / "out"
    make(folder, "a/1.png")
    own(folder, "a/1.png").remove("a/1.png")
    assert below(folder) == []
    assert folder.is_dir()


def test_only_subfolders_out_of_which_a_png_was_removed_go(tmp_path):
    folder = tmp_path / "out"
    (folder / "mine").mkdir(parents=True)
    make(tmp_path / "elsewhere", "2.png")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    pngs = own(folder, "mine/1.png", "link/2.png")
    pngs.remove("mine/1.png")
    pngs.remove("link/2.png")
    assert below(folder) == ["link", "mine"]
    assert below(tmp_path / "elsewhere") == []
