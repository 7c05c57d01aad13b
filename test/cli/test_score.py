"""rt-panoptic score, compare: as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rt_panoptic_core.cli.main import main

sys.path.append(str(Path(__file__).parents[1] / "evaluation"))
from evaluation_pictures import ALL, write_files

TABLE = """\
          |    PQ     SQ     RQ     N
--------------------------------------
All       |  52.9   80.5   65.0     4
Things    |  49.7   76.1   65.1     2
Stuff     |  56.0   84.9   65.0     2
"""


@pytest.fixture
def files(tmp_path):
    return [str(path) for path in write_files(tmp_path)]


def test_score_prints_panopticapis_table_and_writes_json(files, tmp_path, capsys):
    output = tmp_path / "out" / "score.json"
    arguments = ["--ground-truth", files[0], "--predictions", files[1], "--output", str(output)]
    assert main(["score", *arguments, "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(TABLE)
    content = json.loads(output.read_text())
    assert content["panoptic"]["all"]["pq"] == pytest.approx(ALL[0], rel=1e-14)
    assert [frame["name"] for frame in content["frames"]] == ["0", "1", "2"]
    semantic = content["semantic"]
    line = printed.removeprefix(TABLE).strip().splitlines()[0]
    assert line == (
        f"mIoU {100 * semantic['mean_iou']:.1f} · pixel accuracy {100 * semantic['pixel_accuracy']:.1f}"
    )


def test_panopticapis_own_arguments_work(files, tmp_path, capsys):
    arguments = ["--gt_json_file", files[0], "--pred_json_file", files[1]]
    arguments += ["--gt_folder", str(tmp_path / "truth")]
    arguments += ["--pred_folder", str(tmp_path / "predictions")]
    assert main(["score", *arguments]) == 0
    assert capsys.readouterr().out.startswith(TABLE)


def test_predictions_of_segment_are_paired_by_their_names(files, capsys):
    for path, changed in ((files[0], lambda n: n + 1000), (files[1], lambda n: f"{n}")):
        content = json.loads(Path(path).read_text())
        for annotation in content["annotations"]:
            annotation["image_id"] = changed(annotation["image_id"])
        Path(path).write_text(json.dumps(content))
    assert main(["score", "--ground-truth", files[0], "--predictions", files[1]]) == 0
    told = capsys.readouterr()
    assert told.out.startswith(TABLE)
    assert told.err.splitlines()[0] == (
        f"note: {files[1]} has no image id of {files[0]}; images were paired by the names of their files"
    )


def test_per_class_and_boundary_tables(files, capsys):
    arguments = ["score", "--ground-truth", files[0], "--predictions", files[1]]
    assert main([*arguments, "--per-class", "--boundary", "0.1", "--processes", "1"]) == 0
    printed = capsys.readouterr().out
    assert "Boundary PQ, boundaries 0.1 of the diagonal wide" in printed
    for name in ("car", "person", "road", "sky"):
        assert name in printed


def test_bad_input_is_told_whole_and_nothing_is_written(files, tmp_path, capsys):
    for name in ("0.png", "1.png"):
        (tmp_path / "predictions" / name).write_bytes(b"no picture")
    output = tmp_path / "score.json"
    arguments = ["--ground-truth", files[0], "--predictions", files[1], "--output", str(output)]
    assert main(["score", *arguments]) == 1
    captured = capsys.readouterr()
    assert "2 problems, nothing scored" in captured.err
    assert captured.err.count("not a PNG") == 2
    assert captured.out == ""
    assert not output.exists()


@pytest.mark.parametrize("bad", [["--processes", "0"], ["--boundary", "2"]])
def test_arguments_out_of_range(files, bad, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["score", "--ground-truth", files[0], "--predictions", files[1], *bad])
    assert bad[0] in capsys.readouterr().err


def test_compare_of_two_scores(files, tmp_path, capsys):
    first, second = str(tmp_path / "a.json"), str(tmp_path / "b.json")
    base = ["score", "--ground-truth", files[0], "--processes", "1"]
    assert main([*base, "--predictions", files[1], "--output", first]) == 0
    assert main([*base, "--predictions", files[0], "--output", second]) == 0
    capsys.readouterr()
    output = tmp_path / "comparison.json"
    assert main(["compare", first, second, "--samples", "200", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "3 frames, paired bootstrap of 200 resamples over frames" in printed
    content = json.loads(output.read_text())
    overall = {change["name"]: change for change in content["overall"]}
    # The truth against itself is perfect but for one car: image 1 has two crowds of cars, and only the
    # last of a class forgives. Cars: 3 found, 1 false: 3 / 3.5.
    assert overall["PQ"]["after"] == pytest.approx((3 / 3.5 + 3) / 4)
    assert overall["PQ"]["before"] == pytest.approx(ALL[0])
    assert {change["name"] for change in content["pq"]} == {"car", "person", "road", "sky"}


def scored(files, tmp_path) -> Path:
    output = tmp_path / "score.json"
    arguments = ["--ground-truth", files[0], "--predictions", files[1], "--output", str(output)]
    assert main(["score", *arguments, "--processes", "1"]) == 0
    return output


def changed(record: Path, change) -> str:
    """Path of a copy of a record after ``change``."""
    content = json.loads(record.read_text())
    change(content)
    copy = record.with_name("changed.json")
    copy.write_text(json.dumps(content))
    return str(copy)


def test_one_frame_is_no_verdict(files, tmp_path, capsys):
    record = scored(files, tmp_path)

    def only_first_and_worse(content):
        content["frames"] = content["frames"][:1]
        content["frames"][0]["segments"] = {
            key: [0, 1, 1, 0.0] for key in content["frames"][0]["segments"]
        }

    other = changed(record, only_first_and_worse)
    capsys.readouterr()
    output = tmp_path / "comparison.json"
    words = ["compare", str(record), other, "--common-frames", "--samples", "200"]
    assert main([*words, "--output", str(output)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    tables, _, notes = printed.partition("paired bootstrap")
    for word in ("worse", "unclear", "…", "0.001"):
        assert word not in tables
    assert "Too few frames to tell a difference from chance: with 1 frame there is no p." in notes
    change = json.loads(output.read_text())["overall"][0]
    assert (change["low"], change["high"], change["p"], change["is_real"]) == (
        None,
        None,
        None,
        False,
    )
    assert change["difference"] < 0


def test_another_ground_truth_is_told(files, tmp_path, capsys):
    record = scored(files, tmp_path)

    def one_more_car(content):
        content["subject"]["ground_truth"] = "corrected.json"
        for counts in content["frames"][0]["segments"].values():
            counts[2] += 1

    other = changed(record, one_more_car)
    capsys.readouterr()
    output = tmp_path / "comparison.json"
    words = ["compare", str(record), other, "--samples", "100", "--output", str(output)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    sentence = (
        "The ground truth is not the same in 1 of 3 frames: what changed below may be the truth"
    )
    assert sentence in printed
    assert printed.index(sentence) < printed.index("95 % interval")
    assert f"  ground truth  A  {files[0]}\n" in printed
    assert "                B  corrected.json\n" in printed
    content = json.loads(output.read_text())
    assert content["frames_of_other_truth"] == 1
    assert sentence in content["notes"][0]
    assert main(["compare", str(record), str(record), "--samples", "100"]) == 0
    printed = capsys.readouterr().out
    assert "ground truth" not in printed
    assert "What differs" not in printed


def test_lines_of_a_comparison_are_whole_in_a_file(files, tmp_path, capsys):
    record = str(scored(files, tmp_path))
    capsys.readouterr()
    assert main(["compare", record, record, "--samples", "100"]) == 0
    assert (
        "3 frames, paired bootstrap of 100 resamples over frames. better / worse: p < 0.05, for classes "
        "corrected for their number (Holm)."
    ) in capsys.readouterr().out.splitlines()


def test_a_class_in_too_few_frames_is_called_that(files, tmp_path, capsys):
    record = scored(files, tmp_path)
    other = changed(
        record,
        lambda content: content["frames"].__setitem__(
            0, {**content["frames"][0], "segments": {"0": [0, 1, 1, 0.0]}}
        ),
    )
    capsys.readouterr()
    assert main(["compare", str(record), other, "--samples", "100"]) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("PQ by class") :]
    assert "too few frames" in next(line for line in table.splitlines() if "car" in line)
    assert "too few frames: however large the difference" in table


def test_few_blocks_are_too_few(files, tmp_path, capsys):
    record = str(scored(files, tmp_path))
    capsys.readouterr()
    assert main(["compare", record, record, "--samples", "100", "--block", "3"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "with 1 block of 3 frames there is no p. 6 are the least" in printed
    assert "smaller blocks (--block)" in printed


def test_pixels_of_evaluate_and_of_score_are_not_compared(files, tmp_path, capsys):
    record = scored(files, tmp_path)
    model = changed(record, lambda content: content.update(subject={"model": "m", "dataset": "d"}))
    capsys.readouterr()
    assert main(["compare", str(record), model, "--samples", "100"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "PQ by class" in printed
    assert "Semantic IoU by class" not in printed
    assert (
        "mIoU, pixel accuracy and IoU are not compared: one side is of a model, the other of files"
        in printed
    )
    assert main(["compare", model, model, "--samples", "100"]) == 0
    assert "Semantic IoU by class" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    ],
)
def test_what_a_terminal_cannot_show_is_replaced(files, tmp_path, settings):
    record = str(scored(files, tmp_path))
    score = ["score", "--ground-truth", files[0], "--predictions", files[1], "--per-class"]
    for words, shown in ((score, "car"), (["compare", record, record], "paired")):
        done = subprocess.run(
            [sys.executable, "-m", "rt_panoptic_core", *words],
            env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert shown.encode() in done.stdout
        assert b"?" in done.stdout


def test_a_file_s_name_of_any_bytes_is_told(files, tmp_path):
    folder = tmp_path / os.fsdecode(b"stra\xdfe")
    folder.mkdir()
    words = ["score", "--ground-truth", files[0], "--predictions", files[1], "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "rt_panoptic_core", *words, "--output", str(folder / "a.json")],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"stra?e" in done.stdout


def gone(*_):
    """Printing for a reader that has gone away (`| head -1`)."""
    raise BrokenPipeError


def test_the_files_are_written_before_anything_is_printed(files, tmp_path, monkeypatch):
    score, comparison = tmp_path / "score.json", tmp_path / "comparison.json"
    words = ["score", "--ground-truth", files[0], "--predictions", files[1], "--processes", "1"]
    # The command lets go of standard output then.
    monkeypatch.setattr("sys.stdout", sys.stdout)
    monkeypatch.setattr("rt_panoptic_core.cli.score.quality_table", gone)
    monkeypatch.setattr("rt_panoptic_core.cli.compare._print_quality", gone)
    assert main([*words, "--output", str(score), "--quiet"]) == 1
    words = ["compare", str(score), str(score), "--samples", "100", "--output", str(comparison)]
    assert main(words) == 1
    assert json.loads(score.read_text())["frames"]
    assert json.loads(comparison.read_text())["frames"] == 3


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("truth", "truth: it is a folder; name a file in it"),
        ("truth.json/a.json", "truth.json: results"),
    ],
)
def test_a_place_that_cannot_be_written_is_found_before_anything_is_scored(
    files, tmp_path, capsys, monkeypatch, place, message
):
    def score(*_, **__):
        pytest.fail("the work has begun")

    monkeypatch.setattr("rt_panoptic_core.evaluation.panoptic_files.score_files", score)
    arguments = ["--ground-truth", files[0], "--predictions", files[1]]
    assert main(["score", *arguments, "--output", str(tmp_path / place)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert ".part" not in error


def test_compare_of_what_is_no_evaluation(files, capsys):
    assert main(["compare", files[0], files[1]]) == 1
    assert "truth.json: its format is None" in capsys.readouterr().err
