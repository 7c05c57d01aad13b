"""What changed between two evaluations of one bag."""

import json
import math

import numpy as np
import pytest
from bag_evaluations import ABOUT, evaluate

from rt_panoptic_core.bags import changes as bag_changes
from rt_panoptic_core.bags.answers import Answer, EngineAnswers
from rt_panoptic_core.bags.changes import (
    BagEvaluation,
    compare_bag_evaluations,
    is_bag_evaluation,
)
from rt_panoptic_core.bags.records import DROPPED
from rt_panoptic_core.cli.main import main
from rt_panoptic_core.errors import BagError, DatasetError

FRAMES = 24


class Forgetful:
    """Says of every other frame that the whole picture is road."""

    def __init__(self, street):
        self.street, self.taxonomy, self.count = street, street.taxonomy, 0

    def segment(self, image):
        self.count += 1
        result = self.street.segment(image)
        if self.count % 2:
            return result
        road = next(c.class_id for c in self.taxonomy if c.name == "road")
        nothing = np.zeros_like(result.instance)
        return type(result)(np.full_like(result.semantic, road), nothing, [])


class Dropping(EngineAnswers):
    """Leaves out every fourth frame, as a node that does not keep up."""

    def ask(self, frame):
        answer = super().ask(frame)
        return answer if frame.number % 4 != 3 else lambda: Answer(None, DROPPED)


@pytest.fixture
def runs(make_flat_bag, street, tmp_path):
    bag = make_flat_bag(frames=range(FRAMES))
    folders = {name: tmp_path / name for name in ("good", "bad", "late")}
    evaluate(bag, folders["good"], street)
    evaluate(bag, folders["bad"], street, answers=EngineAnswers(Forgetful(street)))
    evaluate(bag, folders["late"], street, answers=Dropping(street))
    return folders


def compared(before, after, **options):
    evaluations = (BagEvaluation.read(folder) for folder in (before, after))
    return compare_bag_evaluations(*evaluations, **options)


def by_name(changes):
    return {change.name: change for change in changes}


def test_what_got_worse_is_told(runs):
    (change,) = compared(runs["good"], runs["bad"], samples=400, block=2)
    assert (change.topic, change.frames, change.block) == ("/camera/image", FRAMES, 2)
    assert change.answered == (FRAMES, FRAMES)
    measures = by_name(change.measures)
    assert measures["instances"].before == 2.0
    assert measures["instances"].after == 1.0
    assert measures["flicker, %"].is_real
    assert measures["flicker, %"].difference > 10
    # Offline nothing is late.
    assert "latency, ms" not in measures
    shares = by_name(change.shares)
    assert shares["road"].difference > 0.1
    assert shares["car"].after == pytest.approx(shares["car"].before / 2, rel=0.05)
    assert "person" not in shares
    quality = by_name(change.quality.overall)
    assert quality["PQ"].before == 1.0
    assert quality["PQ"].is_real
    assert quality["PQ"].difference < -0.3


def test_frames_without_a_result_are_no_pairs(runs):
    with pytest.raises(DatasetError, match="--common-frames"):
        compared(runs["good"], runs["late"], samples=100)
    (change,) = compared(runs["good"], runs["late"], samples=100, common_frames=True)
    assert change.answered == (FRAMES, FRAMES - FRAMES // 4)
    assert change.frames == change.quality.frames == FRAMES - FRAMES // 4
    # A sixth of the frames, where that is less than the usual block.
    assert change.block == 3
    assert by_name(change.quality.overall)["PQ"].difference == 0


def keep_truth_of(folder, count):
    """Leave the quality of the first ``count`` frames, as of a bag that has no more ground truth."""
    file = folder / "quality.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "frames": content["frames"][:count]}))


@pytest.mark.parametrize(("count", "block", "real"), [(3, 1, False), (12, 2, True)])
def test_quality_has_a_block_of_its_own(runs, capsys, count, block, real):
    for name in ("good", "bad"):
        keep_truth_of(runs[name], count)
    (change,) = compared(runs["good"], runs["bad"], samples=400)
    assert (change.frames, change.block) == (FRAMES, 4)
    assert (change.quality.frames, change.quality.block) == (count, block)
    assert by_name(change.quality.overall)["PQ"].is_real == real
    assert main(["compare", str(runs["good"]), str(runs["bad"]), "--samples", "100"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "24 frames, paired bootstrap of 100 resamples over blocks of 4 frames" in told
    over = f"blocks of {block} frames" if block > 1 else "frames"
    assert f"{count} frames, paired bootstrap of 100 resamples over {over}." in told
    (change,) = compared(runs["good"], runs["bad"], samples=100, block=3)
    assert change.block == change.quality.block == 3


def test_the_command_prints_and_writes_it(runs, tmp_path, capsys):
    output = tmp_path / "changes.json"
    words = ["compare", str(runs["good"]), str(runs["bad"]), "--samples", "800", "--block", "2"]
    assert main([*words, "--output", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "/camera/image: A answers 24 frames, B 24" in shown
    for word in ("flicker, %", "PQ things", "Share of the pixels", "road"):
        assert word in shown
    (topic,) = json.loads(output.read_text())["topics"]
    assert topic["frames"] == FRAMES
    assert {m["name"] for m in topic["measures"]} == {"flicker, %", "unlabelled, %", "instances"}
    assert topic["quality"]["overall"][0]["name"] == "PQ"


def test_a_bag_and_something_else_are_not_compared(runs, tmp_path, capsys):
    assert main(["compare", str(runs["good"]), str(tmp_path)]) == 1
    assert "is of a bag" in capsys.readouterr().err


def test_latency_is_compared_where_both_know_it(runs):
    for name, delay in (("good", 0.1), ("late", 0.2)):
        table = runs[name] / "frames.csv"
        head, *rows = table.read_text().splitlines()
        place = head.split(",").index("latency")
        cells = [row.split(",") for row in rows]
        for row in cells:
            row[place] = str(delay)
        table.write_text("\n".join([head, *(",".join(row) for row in cells)]) + "\n")
    (change,) = compared(runs["good"], runs["late"], samples=100, common_frames=True)
    latency = by_name(change.measures)["latency, ms"]
    assert (latency.before, latency.after) == (pytest.approx(100), pytest.approx(200))
    assert latency.is_real


def test_without_ground_truth_there_is_no_quality(runs):
    (runs["bad"] / "quality.json").unlink()
    (change,) = compared(runs["good"], runs["bad"], samples=100)
    assert change.quality is None
    assert not math.isnan(by_name(change.measures)["flicker, %"].difference)


def test_what_cannot_be_compared_is_refused(runs, tmp_path, monkeypatch):
    assert not is_bag_evaluation(tmp_path)
    with pytest.raises(BagError, match="no complete evaluation"):
        compared(runs["good"], tmp_path)
    with pytest.raises(BagError, match="no frame has a result in both"):
        monkeypatch.setattr(bag_changes, "_is_answered", lambda row: row["number"] == "x")
        compared(runs["good"], runs["bad"])
    monkeypatch.undo()
    report = runs["bad"] / "report.json"
    content = json.loads(report.read_text())
    report.write_text(json.dumps({**content, "bag": {"name": "other", "files": {"a.mcap": 1}}}))
    with pytest.raises(BagError, match=r"is of the bag 'drive'.*of 'other'"):
        compared(runs["good"], runs["bad"])
    topic = {**content["topics"][0], "topic": "/rear"}
    report.write_text(json.dumps({**content, "topics": [topic]}))
    with pytest.raises(BagError, match="no topic in common"):
        compared(runs["good"], runs["bad"])
    for text in ("{", "[]", "{}"):
        report.write_text(text)
        with pytest.raises(BagError, match=r"report\.json"):
            compared(runs["good"], runs["bad"])
    report.write_text(json.dumps(content))
    (runs["bad"] / "frames.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BagError, match=r"no table of frames.*'topic'"):
        compared(runs["good"], runs["bad"])


def test_the_evaluations_are_of_what_they_say(runs):
    record = json.loads((runs["good"] / "quality.json").read_text())
    assert record["subject"]["model"] == ABOUT["model"]["name"]
    assert record["subject"]["dataset"] == "drive /camera/image"
    assert len(record["frames"]) == FRAMES
    page = (runs["good"] / "quality.html").read_text()
    for heading in ("Worst frames", "Confusion", "Small and far"):
        assert heading in page
    assert "quality.html" in (runs["good"] / "report.html").read_text()
