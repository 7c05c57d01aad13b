import json
import os
import signal
import subprocess
import sys
import time
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from rt_panoptic_core import image_files
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.cli.segment import image_id
from rt_panoptic_core.engines import hardware
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.image_files import find_inputs, read_image
from rt_panoptic_core.panoptic_format import read_annotations, read_ids
from rt_panoptic_core.result_folders import RESULTS_MARKER, mark_results
from rt_panoptic_core.taxonomy import Taxonomy


@pytest.fixture(scope="module")
def model(save_small_model):
    """A checkpoint that sees cars among a little of everything."""
    return save_small_model(sees=True, score_threshold=0.1, mask_threshold=0.05, stuff_area_limit=0)


def picture(seed, size=(64, 96)):
    values = np.random.default_rng(seed).integers(0, 256, (size[0] // 16, size[1] // 16, 3))
    return np.kron(values, np.ones((16, 16, 1))).astype(np.uint8)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def write_video(path, frames=5, size=(64, 96)):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, size[::-1])
    for index in range(frames):
        writer.write(picture(index, size))
    writer.release()
    return path


@pytest.fixture
def segment(model, tmp_path):
    def run(*arguments):
        return main(
            [
                *("segment", "--model", str(model), "--output", str(tmp_path / "out")),
                *("--engine", "pytorch", "--precision", "fp32"),
                *map(str, arguments),
            ]
        )

    run.output = tmp_path / "out"
    return run


def files(folder):
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.name != RESULTS_MARKER
    )


def test_a_folder_gives_overlays_and_coco_files(segment, tmp_path, capsys):
    write(tmp_path / "in/a.png", picture(0))
    write(tmp_path / "in/deep/b.jpg", picture(1, (80, 64)))
    assert segment(tmp_path / "in") == 0
    assert files(segment.output) == [
        "overlays/a.jpg",
        "overlays/deep/b.jpg",
        "panoptic.json",
        "panoptic/a.png",
        "panoptic/deep/b.png",
    ]
    assert read_image(segment.output / "overlays/deep/b.jpg").shape == (80, 64, 3)
    written = read_annotations(segment.output / "panoptic.json")
    assert [a["image_id"] for a in written.annotations] == ["a", "deep/b"]
    for annotation in written.annotations:
        ids = read_ids(segment.output / "panoptic" / annotation["file_name"])
        for info in annotation["segments_info"]:
            assert (ids == info["id"]).sum() == info["area"]
        assert {i["id"] for i in annotation["segments_info"]} == set(np.unique(ids)) - {0}
    assert "; licence: only for tests\n" in capsys.readouterr().err


def test_instances_are_found_and_named(segment, tmp_path):
    image = write(tmp_path / "a.png", picture(0))
    assert segment(image) == 0
    with_names = read_image(segment.output / "overlays/a.jpg")
    (annotation,) = read_annotations(segment.output / "panoptic.json").annotations
    assert any("score" in info for info in annotation["segments_info"])
    assert segment(image, "--no-names", "--no-legend") == 0
    assert (with_names != read_image(segment.output / "overlays/a.jpg")).any()


def test_the_score_threshold_is_taken(segment, tmp_path):
    assert segment(write(tmp_path / "a.png", picture(0)), "--score", "1") == 0
    (annotation,) = read_annotations(segment.output / "panoptic.json").annotations
    assert not any("score" in info for info in annotation["segments_info"])


def test_cityscapes_ids(segment, tmp_path):
    write(tmp_path / "a.png", picture(0))
    assert segment(tmp_path / "a.png", "--ids", "cityscapes", "--no-overlay") == 0
    assert files(segment.output) == ["panoptic.json", "panoptic/a_panoptic.png"]
    ids = set(np.unique(read_ids(segment.output / "panoptic/a_panoptic.png")).tolist()) - {0}
    taxonomy = Taxonomy.load("cityscapes")
    stuff = {c.source_id for c in taxonomy if not c.is_thing}
    things = {c.source_id for c in taxonomy if c.is_thing}
    assert ids
    assert all(i in stuff if i < 1000 else i // 1000 in things for i in ids)


def test_a_second_run_adds_to_the_first(segment, tmp_path):
    both = [write(tmp_path / f"{name}.png", picture(seed)) for seed, name in enumerate("ab")]
    assert segment(*both) == 0
    (segment.output / "panoptic/a.png").unlink()
    assert segment(write(tmp_path / "c.png", picture(2, (32, 48)))) == 0
    write(both[1], picture(3, (48, 32)))
    assert segment(both[1]) == 0
    found = read_annotations(segment.output / "panoptic.json")
    # a's id map is gone, b was done again.
    assert [item["image_id"] for item in found.annotations] == ["b", "c"]
    assert {key: image["height"] for key, image in found.images.items()} == {"b": 48, "c": 32}
    for item in found.annotations:
        ids = read_ids(segment.output / "panoptic" / item["file_name"])
        assert {info["id"] for info in item["segments_info"]} == set(np.unique(ids)) - {0}


def test_results_with_other_classes_are_not_added_to(segment, tmp_path, capsys):
    there = segment.output / "panoptic.json"
    there.parent.mkdir()
    category = {"id": 1, "name": "cat", "isthing": 1}
    content = {"info": {"segment_ids": "coco"}, "images": [], "annotations": []}
    words = json.dumps({**content, "categories": [category]})
    there.write_text(words)
    assert segment(write(tmp_path / "a.png", picture(0))) == 1
    error = capsys.readouterr().err
    assert f"{there}: it holds results with other classes" in error
    assert there.read_text() == words
    assert files(segment.output) == ["panoptic.json"]


def ids_of(output):
    found = read_annotations(output / "panoptic.json")
    assert len({item["file_name"] for item in found.annotations}) == len(found.annotations)
    for item in found.annotations:
        ids = read_ids(output / "panoptic" / item["file_name"])
        assert ids.shape == (found.images[item["image_id"]]["height"], ids.shape[1])
    return [item["image_id"] for item in found.annotations]


def test_somebody_else_s_png_costs_one_picture(segment, tmp_path, capsys):
    for name in ("a", "b"):
        write(tmp_path / f"in/{name}.jpg", picture(0))
    photo = write(segment.output / "panoptic/a.png", picture(3))
    before = photo.read_bytes()
    assert segment(tmp_path / "in/a.jpg") == 1
    assert f"skipped {tmp_path / 'in/a.jpg'}: {photo}: it is not of an earlier run" in " ".join(
        capsys.readouterr().err.split()
    )
    assert files(segment.output) == ["panoptic/a.png"]
    assert segment(tmp_path / "in") == 3
    assert photo.read_bytes() == before
    assert files(segment.output) == [
        "overlays/b.jpg",
        "panoptic.json",
        "panoptic/a.png",
        "panoptic/b.png",
    ]


def test_a_video_and_the_folder_of_its_frames_keep_apart(segment, tmp_path):
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in/v.avi", 3, (48, 64))
    for number in range(2):
        write(tmp_path / f"in/v/{number:06d}.png", picture(number, (32, 64)))
    assert segment(tmp_path / "in", "--ids", "coco") == 0
    frames = [f"v_frames/{number:06d}" for number in range(3)]
    assert sorted(ids_of(segment.output)) == ["v/000000", "v/000001", *frames]


def test_nothing_stays_of_a_longer_video_of_that_name(segment, tmp_path):
    other = write(tmp_path / "a.png", picture(0))
    for frames in (5, 2):
        assert segment(write_video(tmp_path / "v.avi", frames), other, "--ids", "coco") == 0
        assert ids_of(segment.output) == [*(f"v/{n:06d}" for n in range(frames)), "a"]
        assert len(files(segment.output / "panoptic/v")) == frames


def test_names_that_mean_the_same_keep_apart(segment, tmp_path):
    names = ["x_leftImg8bit.png", "x.png", "000000000005.png", "5/000000000005.png"]
    inputs = [write(tmp_path / name, picture(seed)) for seed, name in enumerate(names)]
    assert segment(*inputs) == 0
    assert ids_of(segment.output) == ["x", "x_2", 5, "000000000005_png"]


def test_ids_of_two_forms_do_not_mix(segment, tmp_path, capsys):
    image = write(tmp_path / "a.png", picture(0))
    assert segment(image) == 0
    assert segment(image, "--ids", "cityscapes") == 1
    assert "it holds ids of the form 'coco', not 'cityscapes'" in capsys.readouterr().err


def test_a_name_that_is_too_long_costs_one_picture(segment, tmp_path, capsys):
    good = [write(tmp_path / f"in/{name}.png", picture(0)) for name in ("b" + "a" * 230, "c")]
    # The suffix of its id map makes this one too long.
    write(tmp_path / f"in/{'d' * 245}.png", picture(0))
    assert segment(tmp_path / "in", "--ids", "cityscapes") == 3
    assert ids_of(segment.output) == [path.stem for path in good]
    error = capsys.readouterr().err
    assert "its name is too long" in error
    assert "1 of 3 inputs skipped" in error
    assert {name[0] for name in files(segment.output / "overlays")} == {"b", "c"}


def test_what_is_no_file_is_told_apart(capsys, segment):
    inputs = ["http://x/y.jpg", "0", "/dev/null", "nothere.png"]
    assert segment(*inputs) == 1
    error = capsys.readouterr().err
    assert "http://x/y.jpg: addresses are not read" in error
    assert "0: cameras are not read here; scripts/demo --source 0" in error
    assert "nothere.png: there is no such file" in error


def test_all_that_was_skipped_is_counted(segment, tmp_path, capsys):
    assert segment(write(tmp_path / "a.png", picture(0)), "b.png", "c.xyz") == 3
    error = capsys.readouterr().err
    assert "2 of 3 inputs skipped" in error
    assert "\n\n" not in error


@pytest.fixture
def long_video_being_segmented(model, tmp_path):
    """Starts the command on a video of two thousand frames; its process, a few frames later."""
    started = []

    def start(*prefix, **streams):
        video = write_video(tmp_path / "long.avi", 2000)
        words = ["segment", video, "--model", model, "--ids", "coco", "--engine", "pytorch"]
        command = [sys.executable, "-m", "rt_panoptic_core", *words, "--output", tmp_path / "out"]
        process = subprocess.Popen([*prefix, *map(str, command)], text=True, **streams)
        started.append(process)
        first, end = tmp_path / "out/panoptic/long/000002.png", time.monotonic() + 120
        while not first.exists():
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")]
)
def test_signals_leave_what_ctrl_c_leaves(
    long_video_being_segmented, heed_hangups, tmp_path, number, word
):
    process = long_video_being_segmented(*heed_hangups, stderr=subprocess.PIPE)
    process.send_signal(number)
    if number == signal.SIGHUP:
        # Of one lost terminal both the kernel and the shell tell.
        process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert "its overlay is not kept" in error
    assert error.endswith(f"rt-panoptic segment: {word}\n")
    assert len(ids_of(tmp_path / "out")) >= 3
    assert not list((tmp_path / "out").rglob(".*.part*"))


def test_a_lost_terminal_ends_the_command_as_ctrl_c_does(
    long_video_being_segmented, heed_hangups, tmp_path
):
    master, terminal = os.openpty()
    process = long_video_being_segmented(*heed_hangups, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 129
    assert len(ids_of(tmp_path / "out")) >= 3
    assert not list((tmp_path / "out").rglob(".*.part*"))


def test_nohup_is_heeded(long_video_being_segmented):
    process = long_video_being_segmented("nohup", stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 143
    assert error.endswith("rt-panoptic segment: terminated\n")


def test_decoders_have_no_say(model, tmp_path):
    video = write_video(tmp_path / "drive.avi", 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    (tmp_path / "odd.tif").write_bytes(b"II*\0" + bytes(60))
    inputs = [str(video), str(tmp_path / "odd.tif"), "--output", str(tmp_path / "out")]
    words = ["segment", *inputs, "--model", str(model), "--engine", "pytorch", "--no-overlay"]
    done = subprocess.run(
        [sys.executable, "-m", "rt_panoptic_core", *words], capture_output=True, text=True
    )
    assert done.returncode == 3
    said = [line.split()[0] for line in done.stderr.splitlines()]
    assert said[:2] == ["cut", "skipped"]
    assert "WARN" not in done.stderr
    assert "@ 0x" not in done.stderr


def test_broken_files_are_named_and_skipped(segment, tmp_path, capsys):
    folder = tmp_path / "in"
    whole = write(folder / "good.jpg", picture(0)).read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.bmp").write_text("not a picture")
    (folder / "video.avi").write_bytes(b"RIFF" + bytes(100))
    assert segment(folder, tmp_path / "nowhere.png", tmp_path / "in" / "notes.txt") == 3
    error = capsys.readouterr().err
    for name in ("cut.jpg", "empty.png", "text.bmp", "video.avi", "nowhere.png", "notes.txt"):
        assert f"{name}:" in error
    assert "6 of 7 inputs skipped" in error
    assert files(segment.output) == ["overlays/good.jpg", "panoptic.json", "panoptic/good.png"]


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 3)])
def test_a_picture_of_other_numbers_is_told_as_such(tmp_path, shape):
    assert cv2.imwrite(str(tmp_path / "depth.tif"), np.ones(shape, np.float32))
    with pytest.raises(ImageError, match=r"depth\.tif: its values are float32; save it with 8 or"):
        read_image(tmp_path / "depth.tif")


def test_what_is_no_file_is_named_and_not_waited_for(segment, tmp_path, capsys):
    write(tmp_path / "in/good.jpg", picture(0))
    for name in ("in/pipe.png", "pipe.mp4", "pipe.jpg"):
        os.mkfifo(tmp_path / name)
    assert segment(tmp_path / "in", tmp_path / "pipe.mp4", tmp_path / "pipe.jpg") == 3
    error = capsys.readouterr().err
    for name in ("pipe.png", "pipe.mp4", "pipe.jpg"):
        assert f"{name}: it is a named pipe, not a file" in error
    with pytest.raises(
        ImageError, match=r"pipe\.jpg: cannot be read: it is a named pipe, not a file"
    ):
        read_image(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match=r"pipe\.mp4: it is a named pipe, not a file"):
        image_files.Video(tmp_path / "pipe.mp4")


def test_a_video_whose_codec_is_not_known_here_says_what_to_do(segment, tmp_path, capsys):
    video = write_video(tmp_path / "drive.avi")
    # It opens, and nothing in it can be decoded.
    video.write_bytes(video.read_bytes().replace(b"MJPG", b"VP90"))
    with pytest.raises(ImageError, match=r"no frame can be read: damaged, or of a codec .*VP90"):
        list(image_files.Video(video).frames())
    assert segment(video) == 1
    error = capsys.readouterr().err
    assert "drive.avi: no frame can be read" in error
    assert "ffmpeg -i IN -c:v libx264 OUT.mp4" in error
    assert not list(segment.output.rglob("*.mp4"))


def test_frames_are_read_once(tmp_path):
    video = image_files.Video(write_video(tmp_path / "drive.avi"))
    assert len(list(video.frames())) == 5
    closed = image_files.Video(tmp_path / "drive.avi")
    closed.close()
    for each in (video, closed):
        with pytest.raises(ImageError, match="have been read, or it is closed; open it again"):
            next(each.frames())
    with pytest.raises(ImageError, match=r"nope\.mp4: there is no such file"):
        image_files.Video(tmp_path / "nope.mp4")


def test_a_video_that_does_not_tell_its_rate_is_told(segment, tmp_path, capsys, monkeypatch):
    real = image_files.Video.__init__

    def without_rate(self, path):
        real(self, path)
        self.fps = None

    monkeypatch.setattr(image_files.Video, "__init__", without_rate)
    assert segment(write_video(tmp_path / "drive.avi")) == 0
    assert "does not tell its rate" in capsys.readouterr().err
    capture = cv2.VideoCapture(str(segment.output / "overlays/drive.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 25


def test_an_empty_name_is_not_the_current_folder(segment, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.png", picture(0))
    assert segment("") == 1
    assert "'': a name is empty" in capsys.readouterr().err


def test_links_in_a_circle_are_named(segment, tmp_path, capsys):
    write(tmp_path / "in/good.jpg", picture(0))
    (tmp_path / "in/a.png").symlink_to("b.png")
    (tmp_path / "in/b.png").symlink_to("a.png")
    assert segment(tmp_path / "in") == 3
    error = capsys.readouterr().err
    for name in ("a.png", "b.png"):
        assert f"{name}: the link leads to no file" in error
    assert segment(tmp_path / "in", "--output", tmp_path / "in/a.png") == 1
    assert "a.png: results cannot be written there" in capsys.readouterr().err


def test_nothing_to_do_is_an_error(segment, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    assert segment(tmp_path / "in") == 1
    assert "holds no pictures" in capsys.readouterr().err
    (tmp_path / "in/broken.png").write_bytes(b"x")
    assert segment(tmp_path / "in") == 1
    assert not segment.output.exists()


def test_a_video_gives_a_video(segment, tmp_path):
    assert segment(write_video(tmp_path / "drive.avi")) == 0
    assert files(segment.output) == ["overlays/drive.mp4"]
    capture = cv2.VideoCapture(str(segment.output / "overlays/drive.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 10
    count = 0
    while capture.read()[0]:
        count += 1
    assert count == 5


def test_id_maps_of_a_video_are_written_on_request(segment, tmp_path):
    video = write_video(tmp_path / "drive.avi", 3)
    assert segment(video, "--no-overlay", "--ids", "coco", "--no-track") == 0
    assert files(segment.output) == [
        "panoptic.json",
        *(f"panoptic/drive/00000{i}.png" for i in range(3)),
    ]
    written = json.loads((segment.output / "panoptic.json").read_text())
    assert [a["image_id"] for a in written["annotations"]] == [f"drive/00000{i}" for i in range(3)]


def test_a_video_that_is_cut_short_keeps_what_there_is_and_says_so(segment, tmp_path, capsys):
    video = write_video(tmp_path / "drive.avi", 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    status = segment(video)
    error = capsys.readouterr().err
    assert status == 3
    assert "drive.avi" in error
    assert "cut short" in error
    assert "1 video cut short" in error
    assert "skipped" not in error
    assert files(segment.output) == ["overlays/drive.mp4"]


def test_results_in_the_input_folder_are_not_taken_for_input(segment, tmp_path):
    write(tmp_path / "a.png", picture(0))
    assert segment(tmp_path) == 0
    first = files(segment.output)
    assert segment(tmp_path) == 0
    assert files(segment.output) == first


@pytest.mark.parametrize("options", [(), ("--ids", "none"), ("--no-overlay",)])
def test_results_of_earlier_runs_are_not_taken_for_input(segment, tmp_path, capsys, options):
    write(tmp_path / "in/a.png", picture(0))
    write_video(tmp_path / "in/drive.avi", 2)
    earlier = tmp_path / "in/earlier"
    assert segment(tmp_path / "in", "--output", earlier, *options) == 0
    assert "left out" not in capsys.readouterr().err
    assert segment(tmp_path / "in") == 0
    made = [earlier / name for name in ("overlays", "panoptic") if (earlier / name).exists()]
    told = f"left out: results of an earlier run in {', '.join(map(str, made))}\n"
    assert told in capsys.readouterr().err
    assert files(segment.output / "overlays") == ["a.jpg", "drive.mp4"]


def test_many_folders_of_earlier_results_are_counted(segment, tmp_path, capsys):
    write(tmp_path / "in/a.png", picture(0))
    for number in range(6):
        mark_results(tmp_path / f"in/results {number}")
    assert segment(tmp_path / "in", tmp_path / "in") == 0
    told = capsys.readouterr().err
    assert f"{tmp_path / 'in/results 3'} and 2 other folders\n" in told
    assert "results 4" not in told


def test_results_that_are_named_themselves_are_input(segment, tmp_path):
    write(tmp_path / "a.png", picture(0))
    assert segment(tmp_path / "a.png") == 0
    assert segment(tmp_path / "out/overlays", "--output", tmp_path / "again") == 0
    assert files(tmp_path / "again/overlays") == ["a.jpg"]


def test_pictures_that_were_in_a_folder_before_the_results_stay_input(segment, tmp_path):
    write(tmp_path / "in/overlays/mine.png", picture(0))
    write(tmp_path / "a.png", picture(1))
    assert segment(tmp_path / "a.png", "--output", tmp_path / "in") == 0
    assert segment(tmp_path / "in") == 0
    assert "overlays/overlays/mine.jpg" in files(segment.output)


def test_images_of_one_pixel_work(segment, tmp_path):
    assert segment(write(tmp_path / "a.png", np.full((1, 1, 3), 90, np.uint8))) == 0
    assert read_ids(segment.output / "panoptic/a.png").shape == (1, 1)


def test_an_image_longer_than_any_engine_goes_through_a_smaller_one(segment, tmp_path):
    write(tmp_path / "long.png", np.zeros((4, 9000, 3), np.uint8))
    assert segment(tmp_path) == 0
    assert cv2.imread(str(segment.output / "panoptic/long.png")).shape == (4, 9000, 3)


def test_an_image_that_is_too_large_is_skipped(segment, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rt_panoptic_core.segmenter.MAX_PIXELS", 30_000)
    write(tmp_path / "huge.png", np.zeros((4, 9000, 3), np.uint8))
    write(tmp_path / "small.png", picture(0))
    assert segment(tmp_path) == 3
    error = capsys.readouterr().err
    assert "huge.png" in error
    assert "9000" in error
    assert "overlays/small.jpg" in files(segment.output)


def test_a_picture_that_says_it_is_too_large_is_not_decoded(segment, tmp_path, capsys):
    # Whole by its checksums; what it decodes to is not there.
    size = (30_000).to_bytes(4, "big")
    chunks = ((b"IHDR", size * 2 + b"\x08\0\0\0\0"), (b"IDAT", b"x"), (b"IEND", b""))
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        checksum = zlib.crc32(kind + data).to_bytes(4, "big")
        content += len(data).to_bytes(4, "big") + kind + data + checksum
    (tmp_path / "huge.png").write_bytes(content)
    assert segment(tmp_path / "huge.png") == 1
    assert (
        "huge.png: 30000x30000 pixels; at most 64 megapixels are taken; scale it"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--no-overlay", "--ids", "none"], 2, "nothing is left to write"),
        (["--model", "nowhere.safetensors"], 1, "nowhere.safetensors"),
    ],
)
def test_wrong_options_are_explained(segment, tmp_path, capsys, arguments, status, words):
    write(tmp_path / "a.png", picture(0))
    assert segment(tmp_path / "a.png", *arguments) == status
    assert words in capsys.readouterr().err
    assert not segment.output.exists()


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "half"])
def test_opacity_is_a_share(segment, tmp_path, capsys, value):
    with pytest.raises(SystemExit, match="2"):
        segment(tmp_path, "--opacity", value)
    assert f"--opacity: {value}: it must be a number from 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["", "in"])
def test_results_do_not_go_where_the_input_is(segment, tmp_path, capsys, inside):
    write(tmp_path / "out" / inside / "a.png", picture(0))
    assert segment(tmp_path / "out" / inside) == 2
    error = capsys.readouterr().err
    assert f"--output {segment.output}: results cannot go where the input" in error
    assert f"--output {segment.output / 'segmented'}" in error
    # As it says; and pictures named one by one may lie beside their results.
    assert segment(tmp_path / "out" / inside, "--output", segment.output / "segmented") == 0
    assert segment(tmp_path / "out" / inside / "a.png") == 0


def test_the_default_output_may_be_in_the_input(segment, tmp_path, monkeypatch):
    write(tmp_path / "a.png", picture(0))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert segment(".", "--output", "segmented", "--ids", "none") == 0
        assert files(tmp_path) == ["a.png", "segmented/overlays/a.jpg"]


def test_an_output_that_cannot_be_written_is_found_first(segment, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "rt_panoptic_core.checkpoint.load_checkpoint", lambda _: pytest.fail("the work has begun")
    )
    write(tmp_path / "a.png", picture(0))
    assert segment(tmp_path / "a.png", "--output", tmp_path / "a.png") == 1
    assert "a.png: results cannot be written there (it is no folder)" in capsys.readouterr().err


def test_pictures_of_many_sizes_get_a_hint(segment, tmp_path, capsys):
    for index in range(6):
        write(tmp_path / f"in/{index}.png", picture(index, (32 + 16 * index, 128 - 16 * index)))
    assert segment(tmp_path / "in", "--no-overlay") == 0
    error = capsys.readouterr().err
    assert error.count("--size 96x128") == 1
    assert segment(tmp_path / "in", "--no-overlay", "--size", "96x128") == 0
    assert "--size" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("000000000139", 139),
        ("val/000000000139", 139),
        ("frankfurt/frankfurt_000000_000294_leftImg8bit", "frankfurt_000000_000294"),
        ("holiday/0139", "holiday/0139"),
        ("000000000139b", "000000000139b"),
    ],
)
def test_pictures_of_data_sets_are_called_as_their_ground_truth_calls_them(name, expected):
    assert image_id(name) == expected


def test_hidden_files_are_passed_over(tmp_path):
    for name in ("a.jpg", "._a.jpg", ".cache/b.jpg", "c/.d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found, problems, _ = find_inputs([tmp_path])
    assert [file.name for file in found] == ["a"]
    assert not problems


def test_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.jpg").write_bytes(b"")
    (tmp_path / "in/b.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "in/notes.txt").symlink_to(tmp_path / "gone.txt")
    found, problems, _ = find_inputs([tmp_path / "in"])
    assert [file.name for file in found] == ["a"]
    assert problems == [f"{tmp_path / 'in/b.jpg'}: the link leads to no file"]


def test_names_stay_unique(tmp_path):
    for name in ("x/a.jpg", "y/a.jpg", "y/a.png", "y/b.PNG", "y/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found, problems, _ = find_inputs(
        [tmp_path / "x/a.jpg", tmp_path / "y", tmp_path / "y/a.jpg", tmp_path / "y/c.txt"]
    )
    assert [(f.path.relative_to(tmp_path).as_posix(), f.name) for f in found] == [
        ("x/a.jpg", "a"),
        ("y/a.jpg", "a_jpg"),
        ("y/a.png", "a_png"),
        ("y/b.PNG", "b"),
    ]
    assert len(problems) == 1
    assert "c.txt" in problems[0]


def test_photos_stand_upright(tmp_path):
    """A JPEG whose EXIF says 'turn by a quarter' comes out turned."""
    path = write(tmp_path / "a.jpg", picture(0, (32, 64)))
    data = path.read_bytes()
    tiff = (
        b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00"
        + bytes(4)
    )
    exif = b"Exif\x00\x00" + tiff
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    assert read_image(path).shape == (64, 32, 3)


def test_one_number_in_two_folders_is_two_pictures(segment, tmp_path):
    for folder in ("cam1", "cam2"):
        write(tmp_path / folder / "000000000001.png", picture(0))
    assert segment(tmp_path) == 0
    found = json.loads((segment.output / "panoptic.json").read_text())
    assert [item["image_id"] for item in found["annotations"]] == [1, "cam2/000000000001"]
    for item in found["annotations"]:
        assert (segment.output / "panoptic" / item["file_name"]).is_file()


def test_a_video_without_an_overlay_leaves_its_id_maps(segment, tmp_path):
    assert segment(write_video(tmp_path / "drive.avi"), "--no-overlay") == 0
    left = files(segment.output)
    assert left[:3] == ["panoptic.json", "panoptic/drive/000000.png", "panoptic/drive/000001.png"]


def test_pictures_of_one_name_can_be_told_apart(segment, tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "x.png", picture(0))
    write(tmp_path / "y.png", picture(1))
    assert segment(tmp_path / "a/x.png", tmp_path / "b/x.png", tmp_path / "y.png") == 0
    found = json.loads((segment.output / "panoptic.json").read_text())
    assert [item["file_name"] for item in found["images"]] == [
        str(tmp_path / "a/x.png"),
        str(tmp_path / "b/x.png"),
        "y.png",
    ]


def test_where_openvino_is_missing_it_is_said_what_would_be_faster(
    model, tmp_path, capsys, monkeypatch
):
    words = ["segment", "--model", str(model), "--output", str(tmp_path / "out"), "--device", "cpu"]
    image = str(write(tmp_path / "a.png", picture(0)))
    monkeypatch.setattr(hardware, "missing_openvino", lambda: "the module openvino is missing")
    assert main([*words, image]) == 0
    assert "OpenVINO would be faster: the module openvino is missing" in capsys.readouterr().err
    # Nothing of it for those who want PyTorch.
    assert main([*words, "--engine", "pytorch", "--precision", "fp32", image]) == 0
    assert "faster" not in capsys.readouterr().err


@pytest.mark.parametrize("name", ["utils.logging", "setLogLevel"])
def test_decoders_are_quiet_with_any_opencv(monkeypatch, name):
    """What is called differs by OpenCV's version."""
    levels = []
    own = SimpleNamespace(setLogLevel=levels.append, LOG_LEVEL_SILENT=0)
    utils = SimpleNamespace(logging=own) if name == "utils.logging" else SimpleNamespace()
    monkeypatch.setattr(image_files, "cv2", SimpleNamespace(utils=utils, setLogLevel=levels.append))
    image_files.quiet_decoders()
    assert levels == [0]
