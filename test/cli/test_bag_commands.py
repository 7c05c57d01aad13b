"""``make-bag`` and ``evaluate-bag`` from the command line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import cv2
import mcap.reader
import numpy as np
import pytest

from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.errors import BagError
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.panoptic_format import PanopticWriter
from rt_panoptic_core.taxonomy import Taxonomy

SECONDS = 120


@pytest.fixture(scope="module")
def model(save_small_model):
    return save_small_model()


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp("bags") / "street"
    words = ["make-bag", "--frames", "5", "--size", "64x96", "--output", str(path)]
    assert main(words) == 0
    return path


def evaluate_words(bag, model, output, *more):
    words = ["evaluate-bag", str(bag), "--model", str(model), "--engine", "pytorch"]
    return [*words, "--precision", "fp32", "--threads", "1", "--output", str(output), *more]


def test_make_then_evaluate(bag, model, tmp_path, capfd, monkeypatch):
    assert main(evaluate_words(bag, model, tmp_path / "out")) == 0
    out, err = capfd.readouterr()
    assert out.strip() == str(tmp_path / "out" / "report.html")
    for words in ("/camera/image", "PQ", "mIoU", "video PQ", "everything else adds"):
        assert words in " ".join(err.split())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["topics"][0]["quality"]["frames"] == 5
    assert report["ground_truth"] == ["/ground_truth/semantic, /ground_truth/instance"]
    assert report["engine"].startswith("PyTorch")
    assert report["thresholds"]["score"] == pytest.approx(0.3)
    # Again: nothing to do, and another model is refused.
    assert main(evaluate_words(bag, model, tmp_path / "out")) == 0
    assert "complete already" in capfd.readouterr().out
    assert main(evaluate_words(bag, model, tmp_path / "out", "--no-track")) == 1
    assert (
        "a run with another plan.show_ids (True there, False here), tracking"
        in capfd.readouterr().err
    )
    # What only the engine's own name tells.
    assert main([*evaluate_words(bag, model, tmp_path / "out"), "--precision", "bf16"]) == 1
    assert "a run with another engine;" in capfd.readouterr().err
    # No engine is built for a run that is refused.
    monkeypatch.setattr(
        "rt_panoptic_core.segmenter.open_engine", lambda *_, **__: pytest.fail("built")
    )
    assert main(evaluate_words(bag, model, tmp_path / "out", "--no-video")) == 1
    assert "another plan.video (True there, False here)" in capfd.readouterr().err


def test_two_runs_give_the_same_bytes(bag, model, tmp_path):
    for name in ("a", "b"):
        assert main(evaluate_words(bag, model, tmp_path / name)) == 0
    files = ["annotated/annotated_0.mcap", "annotated/metadata.yaml", "frames.csv"]
    for file in [*files, "report.json", "report.html", "overlay.mp4"]:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_killed_run_is_gone_on_with(bag, model, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(evaluate_words(bag, model, whole)) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "rt_panoptic_core", *evaluate_words(bag, model, killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    deadline = time.monotonic() + SECONDS
    # From the moment on that the bag is being written there is something to go on from.
    partial = killed / "annotated.partial" / "annotated_0.mcap"
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert main(evaluate_words(bag, model, killed)) == 0
    for file in ("annotated/annotated_0.mcap", "frames.csv", "report.json"):
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    assert not (killed / "previous").exists()
    assert not (killed / "annotated.partial").exists()


def test_a_recording_cut_short_is_evaluated_as_far_as_it_goes(model, tmp_path, capfd):
    words = ["make-bag", "--frames", "30", "--size", "96x128", "--output", str(tmp_path / "bag")]
    assert main([*words, "--compression", "none"]) == 0
    content = (tmp_path / "bag" / "bag_0.mcap").read_bytes()
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(content[: len(content) * 3 // 4])
    assert main(evaluate_words(cut, model, tmp_path / "out", "--no-video")) == 0
    assert "cut off after" in " ".join(capfd.readouterr().err.split())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert 0 < report["topics"][0]["frames"] < 30
    assert any("cut off" in note for note in report["damage"])


def test_a_bag_whose_name_is_no_utf_8(bag, model, tmp_path, capfd):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/stra\xdfe")
    shutil.copytree(bag, path)
    assert main(evaluate_words(path, model, tmp_path / "out", "--no-video")) == 0
    for name in ("report.html", "quality.html"):
        assert "stra\\udcdfe" in (tmp_path / "out" / name).read_text("utf-8")
    # Its name is known again.
    assert main(evaluate_words(path, model, tmp_path / "out", "--no-video")) == 0
    assert "complete already" in capfd.readouterr().out


def test_compressed_pictures_in_an_sqlite_bag(model, tmp_path):
    bag = tmp_path / "bag"
    words = ["make-bag", "--frames", "2", "--size", "64x96", "--output", str(bag)]
    words += ["--compressed", "png", "--storage", "sqlite3", "--compression", "message"]
    assert main([*words, "--no-depth", "--no-ground-truth", "--fps", "20"]) == 0
    with BagReader(bag) as reader:
        assert sorted(reader.topics) == ["/camera/camera_info", "/camera/image/compressed"]
    assert main(evaluate_words(bag, model, tmp_path / "out")) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["topics"][0]["quality"] is None
    assert report["topics"][0]["median_step"] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--image-topic", "/cam"], "no topic '/cam'; it has /camera/depth"),
        (["--ground-truth-topic", "/truth"], "no topic '/truth'"),
        (["--ground-truth-folder", "/nowhere"], "does not exist"),
    ],
)
def test_what_cannot_be_evaluated_says_why(bag, model, tmp_path, capfd, words, said):
    assert main(evaluate_words(bag, model, tmp_path / "out", *words)) == 1
    assert said in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate", "2"], "--rate is for --real-time"),
        (["--real-time", "--calibration", "pictures"], "--calibration is not for --real-time"),
    ],
)
def test_options_that_do_not_go_together(bag, model, tmp_path, capfd, words, said):
    assert main(evaluate_words(bag, model, tmp_path / "out", *words)) == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tolerance", "-1"], "--tolerance: -1: it must be a number, 0 or more"),
        (["--windows", "5", "0"], "--windows: 0: it must be a whole number, 1 or more"),
        (["--real-time", "--rate", "101"], "--rate: 101: it must be a number from 0.01 to 100"),
    ],
)
def test_values_that_make_no_sense(bag, model, tmp_path, capfd, words, said):
    with pytest.raises(SystemExit, match="2"):
        main(evaluate_words(bag, model, tmp_path / "out", *words))
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--score", "--mask"])
def test_thresholds_count_and_a_run_with_others_is_not_gone_on_with(
    bag, model, tmp_path, capfd, option
):
    words = evaluate_words(bag, model, tmp_path / "out", "--no-video", "--quiet")
    assert main([*words, option, "0.9"]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["thresholds"][option[2:]] == 0.9
    (tmp_path / "out" / "report.json").unlink()  # as if it had been interrupted
    for others in ([option, "0.8"], []):
        assert main([*words, *others]) == 1
        assert "here); choose another folder, or --overwrite" in capfd.readouterr().err
    assert main([*words, option, "0.9"]) == 0


def test_a_bag_is_not_evaluated_for_a_folder_that_cannot_be_written(
    bag, model, tmp_path, capfd, monkeypatch
):
    monkeypatch.setattr(
        "rt_panoptic_core.checkpoint.load_checkpoint", lambda _: pytest.fail("the work has begun")
    )
    (tmp_path / "file").touch()
    assert main(evaluate_words(bag, model, tmp_path / "file" / "out")) == 1
    assert "results cannot be written there" in capfd.readouterr().err


@pytest.mark.parametrize(("words", "tracks"), [([], True), (["--no-track"], False)])
def test_the_node_is_told_whether_to_track(bag, model, tmp_path, monkeypatch, words, tracks):
    told = {}

    def replay(*_, parameters, **__):
        told.update(parameters)
        raise BagError("far enough")

    monkeypatch.setattr("rt_panoptic_core.bags.realtime.replay", replay)
    assert main(evaluate_words(bag, model, tmp_path / "out", "--real-time", *words)) == 1
    assert told["tracking.enabled"] is tracks
    assert "thresholds.score" not in told


def test_the_node_is_told_what_the_options_say(bag, model, tmp_path, monkeypatch, capfd):
    told = []

    def replay(*_, parameters, **__):
        told.append(parameters)
        raise BagError("far enough")

    monkeypatch.setattr("rt_panoptic_core.bags.realtime.replay", replay)
    words = evaluate_words(bag, model, tmp_path / "out", "--real-time", "--size", "32x48")
    words += ["--device", "cuda", "--mask", "0"]
    assert main([*words, "--score", "1"]) == 1
    assert told.pop() == {
        "model": str(model),
        "engine": "pytorch",
        "precision": "fp32",
        "device": "cuda:0",
        "network_size": "32x48",
        "threads": 1,
        "thresholds.score": 1.0,
        "thresholds.mask": 0.0,
        "tracking.enabled": True,
    }
    # What a node with other settings said is not taken for the answers of this one.
    assert main([*words, "--score", "1", "--precision", "bf16"]) == 1
    assert (
        "a run with another node.precision (fp32 there, bf16 here); choose"
        in capfd.readouterr().err
    )
    assert not told


def test_bags_that_are_there_are_not_overwritten_unasked(bag, capfd):
    words = ["make-bag", "--frames", "1", "--size", "64x96", "--output", str(bag)]
    assert main(words) == 1
    assert "exists; choose another name, or --overwrite" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fps", "0"], "fps 0; it must be above 0"),
        (["--fps", "nan"], "fps nan; it must be above 0"),
        (["--frames", "0"], "frames 0; it must be at least 1"),
        (["--encoding", "rgb16"], "encoding 'rgb16'; one of"),
    ],
)
def test_bags_that_cannot_be_made(tmp_path, capfd, words, said):
    basics = ["make-bag", "--frames", "1", "--size", "64x96", "--output", str(tmp_path / "bag")]
    assert main([*basics, *words]) == 2
    assert said in capfd.readouterr().err
    assert not (tmp_path / "bag").exists()


def test_the_quality_of_a_bag_is_a_percentage(tmp_path, capfd):
    with pytest.raises(SystemExit, match="2"):
        main(["make-bag", "--output", str(tmp_path / "bag"), "--quality", "0"])
    assert "--quality: 0: it must be a whole number from 1 to 100" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["coco_panoptic", "coco-panoptic-folder"])
def test_a_data_set_has_the_names_that_it_has_everywhere(tmp_path, capfd, name):
    road = np.zeros((64, 96), np.uint8)
    (tmp_path / "val").mkdir()
    cv2.imwrite(str(tmp_path / "val/000000000007.jpg"), np.dstack([road] * 3))
    with PanopticWriter(tmp_path / "panoptic_val", Taxonomy.load("cityscapes")) as truth:
        truth.add(7, PanopticResult(road, road.astype(np.uint16), []))
    words = ["make-bag", "--source", str(tmp_path), "--dataset", name]
    assert main([*words, "--output", str(tmp_path / "bag")]) == 0
    assert "1 frame at 10 Hz" in capfd.readouterr().out
    with BagReader(tmp_path / "bag") as reader:
        assert "/ground_truth/semantic" in reader.topics


def test_an_unknown_data_set_is_told_the_known_ones(tmp_path, capfd):
    words = ["make-bag", "--source", str(tmp_path), "--output", str(tmp_path / "bag")]
    with pytest.raises(SystemExit, match="2"):
        main([*words, "--dataset", "kitti"])
    error = capfd.readouterr().err
    assert "--dataset: data set 'kitti': unknown; one of cityscapes" in error
    assert "coco-panoptic-folder" in error


def test_ground_truth_is_wanted_or_not(bag, model, tmp_path, capfd):
    words = ["--no-ground-truth", "--ground-truth-topic", "/ground_truth"]
    assert main(evaluate_words(bag, model, tmp_path / "out", *words)) == 2
    assert "leave out one of them" in capfd.readouterr().err


def test_a_topic_that_holds_no_labels_is_refused_at_once(bag, model, tmp_path, capfd):
    words = ["--ground-truth-topic", "/camera/depth"]
    assert main(evaluate_words(bag, model, tmp_path / "out", *words)) == 1
    assert "/camera/depth has the encoding '16UC1'; ground truth has" in capfd.readouterr().err


def test_damage_inside_of_a_file_is_told(model, tmp_path, capfd):
    damaged = tmp_path / "damaged"
    # Large enough for several chunks: one of them is lost.
    words = ["make-bag", "--frames", "8", "--size", "256x384", "--output", str(damaged)]
    assert main([*words, "--compression", "none"]) == 0
    (file,) = damaged.glob("*.mcap")
    content = bytearray(file.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 2000] = bytes(2000)
    file.write_bytes(content)
    assert main(evaluate_words(damaged, model, tmp_path / "out", "--size", "64x96")) == 0
    assert "damaged: " in capfd.readouterr().err


@pytest.mark.parametrize("named", [[], ["--image-topic", "/camera/image"]])
def test_a_bag_of_which_no_message_can_be_read_says_why(model, tmp_path, capfd, named):
    bag = tmp_path / "bag"
    words = ["make-bag", "--frames", "4", "--size", "64x96", "--output", str(bag)]
    assert main([*words, "--no-depth"]) == 0
    (file,) = bag.glob("*.mcap")
    content = bytearray(file.read_bytes())
    with file.open("rb") as stream:
        chunks = mcap.reader.make_reader(stream).get_summary().chunk_indexes
    for chunk in chunks:
        middle = chunk.chunk_start_offset + chunk.chunk_length // 2
        content[middle : middle + 100] = bytes(100)
    file.write_bytes(content)
    capfd.readouterr()
    assert main(evaluate_words(bag, model, tmp_path / "out", *named)) == 1
    error = " ".join(capfd.readouterr().err.split())
    assert "damaged: " in error
    assert "/camera/image can be read" in error
    assert "no camera's" not in error


def test_a_folder_that_another_process_writes_into_is_refused(bag, model, tmp_path, capfd):
    (tmp_path / "out").mkdir()
    holding = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from rt_panoptic_core.files import hold_folder; "
            "hold_folder(sys.argv[1]); print('held', flush=True); time.sleep(600)",
            str(tmp_path / "out"),
        ],
        stdout=subprocess.PIPE,
    )
    try:
        assert holding.stdout.readline() == b"held\n"
        assert main(evaluate_words(bag, model, tmp_path / "out")) == 1
        assert "out: another process is writing into it" in capfd.readouterr().err
    finally:
        holding.kill()
        holding.wait()
    assert main(evaluate_words(bag, model, tmp_path / "out")) == 0
