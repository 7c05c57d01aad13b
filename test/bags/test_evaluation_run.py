"""A pass over a bag: what is measured, what is written, and that it can be interrupted."""

import csv
import json
import os
import shutil
import threading
import time

import cv2
import mcap.reader
import numpy as np
import pytest
import rosbags.rosbag2
from bag_evaluations import evaluate

from rt_panoptic_core.bags.annotate import ResultTopics, result_topics
from rt_panoptic_core.bags.answers import EngineAnswers, ReplayAnswers
from rt_panoptic_core.bags.conclude import timing_summary
from rt_panoptic_core.bags.messages import IMAGE, INSTANCES, header, image_message
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.records import Pace
from rt_panoptic_core.bags.run import EvaluationPlan
from rt_panoptic_core.bags.writer import BagWriter
from rt_panoptic_core.errors import BagError, EngineError, ImageError
from rt_panoptic_core.files import hold_folder

START, STEP = 1_000 * 10**9, 10**8


def written(folder):
    """Bytes of everything that has to be the same each time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith("timing")
    }


def test_a_perfect_model_scores_everything(make_flat_bag, street, tmp_path):
    (topic,) = evaluate(make_flat_bag(frames=range(20)), tmp_path / "out", street)["topics"]
    quality = topic["quality"]
    assert quality["frames"] == 20
    assert quality["panoptic"]["all"] == {"pq": 1.0, "sq": 1.0, "rq": 1.0, "classes": 3}
    assert (quality["mean_iou"], quality["ap"], quality["video"]["vpq"]) == (1.0, 1.0, 1.0)
    assert {key: part["all"] for key, part in quality["video"]["windows"].items()} == {
        "1": 1.0,
        "5": 1.0,
        "10": 1.0,
        "15": 1.0,
    }
    assert topic["instances_per_frame"] == 2.0
    assert topic["statuses"] == {"answered": 20}
    assert topic["consistency"]["flicker"] < 0.02
    shares = topic["shares"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["car"] == pytest.approx(280 / (48 * 64))
    assert (topic["duration"], topic["median_step"]) == (pytest.approx(1.9), pytest.approx(0.1))
    assert topic["problems"] == {}


def test_ids_that_change_are_seen_by_the_windows_only(make_flat_bag, street, tmp_path):
    class Swapping:
        """Numbers the two cars anew in each frame, as a model without tracking does."""

        taxonomy = street.taxonomy

        def segment(self, image):
            result = street.segment(image)
            if image[0, 0, 0] % 2 == 0:
                return result
            first, second, *stuff = result.segments
            swap = np.array([0, 2, 1], dtype=np.uint16)
            kwargs = {"is_thing": True, "class_id": street.car}
            swapped = [
                type(first)(id=1, score=second.score, area=second.area, box=second.box, **kwargs),
                type(first)(id=2, score=first.score, area=first.area, box=first.box, **kwargs),
            ]
            return type(result)(result.semantic, swap[result.instance], [*swapped, *stuff])

    path = make_flat_bag(frames=range(20))
    reports = {
        track: evaluate(
            path, tmp_path / str(track), street, answers=EngineAnswers(Swapping(), track=track)
        )
        for track in (True, False)
    }
    for track, report in reports.items():
        video = report["topics"][0]["quality"]["video"]["windows"]
        assert video["1"]["things"] == 1.0
        assert (video["5"]["things"] == 1.0) is track
    assert reports[False]["topics"][0]["quality"]["video"]["windows"]["5"]["things"] < 0.5


def test_the_annotated_bag_reads_back_with_both_libraries(make_flat_bag, street, tmp_path):
    path = make_flat_bag()
    evaluate(path, tmp_path / "out", street)
    annotated = tmp_path / "out" / "annotated"
    names = ResultTopics.below("/rt_panoptic")
    with rosbags.rosbag2.Reader(annotated) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
    assert counts == {
        "/camera/image": 8,
        "/ground_truth/semantic": 8,
        "/ground_truth/instance": 8,
        "/ground_truth/label_info": 1,
        names.semantic: 8,
        names.instance: 8,
        names.instances: 8,
        names.overlay: 8,
        names.label_info: 1,
    }
    with (annotated / "annotated_0.mcap").open("rb") as file:
        reader = mcap.reader.make_reader(file, validate_crcs=True)
        schemas = {c.topic: s.name for s, c, _ in reader.iter_messages()}
    assert schemas[names.instances] == "rt_panoptic_ros/msg/PanopticInstanceArray"
    assert schemas[names.overlay] == "sensor_msgs/msg/CompressedImage"
    from rt_panoptic_core.bags.annotate import RecordedResults
    from rt_panoptic_core.bags.frames import read_frames

    results = RecordedResults(annotated, result_topics(["/camera/image"]), street.taxonomy)
    with BagReader(path) as original:
        for frame in read_frames(original, ["/camera/image"]):
            scene = street.scene(frame.number)
            result = results.take(frame)
            np.testing.assert_array_equal(result.semantic, scene.semantic)
            np.testing.assert_array_equal(result.instance, scene.instance)
            assert [segment.score for segment in result.instances] == [0.875, 0.75]
    results.close()
    # Recorded bytes go over as they are.
    with BagReader(path) as before, BagReader(annotated) as after:
        topics = list(before.topics)
        assert list(before.messages(topics)) == list(after.messages(topics))


def test_the_files_beside_it(make_flat_bag, street, tmp_path):
    folder = tmp_path / "out"
    evaluate(make_flat_bag(), folder, street)
    rows = list(csv.DictReader((folder / "frames.csv").open(encoding="utf-8")))
    assert [row["number"] for row in rows] == [str(number) for number in range(8)]
    assert rows[3]["stamp"] == str(START + 3 * STEP)
    assert (rows[3]["pq"], rows[3]["status"], rows[3]["instances"]) == ("1", "answered", "2")
    assert float(rows[3]["share car"]) == pytest.approx(280 / (48 * 64), rel=1e-4)
    video = cv2.VideoCapture(str(folder / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 8
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    video.release()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")
    assert '"/camera/image"' in page
    timing = json.loads((folder / "timing.json").read_text(encoding="utf-8"))
    assert timing["frames_computed"] == 8
    assert len(timing["inference_by_frame"]["/camera/image"]) == 8


def test_the_same_bag_and_model_give_the_same_bytes(make_flat_bag, street, tmp_path):
    path = make_flat_bag()
    for name in ("a", "b"):
        evaluate(path, tmp_path / name, street)
    assert written(tmp_path / "a") == written(tmp_path / "b")


@pytest.mark.parametrize("streams", [2, 3])
def test_several_streams_give_the_bytes_of_one(make_flat_bag, street, tmp_path, streams):
    path = make_flat_bag(frames=range(16), truth=True)
    evaluate(path, tmp_path / "one", street)

    class Uneven:
        """Later frames are done first."""

        taxonomy = street.taxonomy

        def segment(self, image):
            time.sleep(0.02 if image[0, 0, 0] % 3 == 0 else 0.0)
            return street.segment(image)

    answers = EngineAnswers(Uneven(), streams=streams)
    evaluate(path, tmp_path / "several", street, answers=answers)
    assert written(tmp_path / "one") == written(tmp_path / "several")
    timing = json.loads((tmp_path / "several" / "timing.json").read_text(encoding="utf-8"))
    assert timing["streams"] == streams
    (times,) = timing["inference_by_frame"].values()
    assert len(times) == 16
    assert all(seconds >= 0.02 for seconds in times[::3])


@pytest.mark.parametrize("streams", [1, 2])
def test_no_thread_reads_on_after_a_failure(make_flat_bag, street, tmp_path, streams):
    """Nor where somebody keeps the error: the bag is closed."""

    class Failing:
        taxonomy = street.taxonomy

        def segment(self, _):
            raise EngineError("out of memory")

    path = make_flat_bag(frames=range(40))
    before = set(threading.enumerate())
    with pytest.raises(EngineError, match="out of memory") as kept:
        evaluate(path, tmp_path / "out", street, answers=EngineAnswers(Failing(), streams=streams))
    assert kept.value.__traceback__ is not None
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("stop_at", [1, 7, 15])
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    make_flat_bag, street, tmp_path, monkeypatch, stop_at, streams
):
    # Small chunks, so that the partial bag holds frames as that of a long run does.
    monkeypatch.setattr("rt_panoptic_core.bags.storage._CHUNK_BYTES", 10_000)
    path = make_flat_bag(frames=range(16))
    evaluate(path, tmp_path / "whole", street)

    class Failing:
        taxonomy = street.taxonomy

        def segment(self, image):
            if image[0, 0, 0] == stop_at:
                raise EngineError("out of memory")
            return street.segment(image)

    folder = tmp_path / "broken"
    with pytest.raises(EngineError, match="out of memory"):
        evaluate(path, folder, street, answers=EngineAnswers(Failing(), streams=streams))
    partial = folder / "annotated.partial"
    assert partial.exists()
    assert not (folder / "report.json").exists()
    # As a kill leaves it: the index is missing.
    file = partial / "annotated_0.mcap"
    file.write_bytes(file.read_bytes()[:-600])
    (partial / "metadata.yaml").unlink()
    street.answered = 0
    evaluate(path, folder, street)
    assert street.answered <= 16 - stop_at + 2
    assert written(folder) == written(tmp_path / "whole")


def test_a_complete_run_is_not_made_again_and_another_is_refused(make_flat_bag, street, tmp_path):
    path = make_flat_bag()
    folder = tmp_path / "out"
    evaluate(path, folder, street)
    names = result_topics(["/camera/image"])
    output = OutputFolder(folder)
    assert output.begin({"bag": "drive"}, names) is True
    with pytest.raises(
        BagError,
        match=r"a run with another bag \(drive there, other here\), model \(None there, x here\); choose",
    ):
        output.begin({"bag": "other", "model": "x"}, names)
    assert output.begin({"bag": "other"}, names, overwrite=True) is False
    assert sorted(p.name for p in folder.iterdir()) == ["run.json"]
    stranger = tmp_path / "thesis"
    stranger.mkdir()
    (stranger / "thesis.tex").touch()
    with pytest.raises(BagError, match="holds other files"):
        OutputFolder(stranger).begin({}, names)
    (stranger / "overlay_final.mp4").touch()
    OutputFolder(stranger).begin({}, names, overwrite=True)
    assert (stranger / "thesis.tex").exists()
    assert (stranger / "overlay_final.mp4").exists()
    with pytest.raises(BagError, match=r"thesis\.tex is no folder"):
        OutputFolder(stranger / "thesis.tex").begin({}, names)


def test_a_begun_folder_is_held_as_long_as_something_writes_into_it(tmp_path):
    folder = tmp_path / "out"
    names = result_topics(["/camera/image"])
    output, again = OutputFolder(folder), OutputFolder(folder)
    assert output.begin({}, names) is False
    assert again.begin({}, names) is False
    assert os.path.samestat(os.fstat(output.hold), folder.stat())
    del again
    assert hold_folder(folder) is None
    # Somebody made it anew, and it is another one.
    shutil.rmtree(folder)
    folder.mkdir()
    assert output.begin({}, names) is False
    assert os.path.samestat(os.fstat(output.hold), folder.stat())
    assert hold_folder(folder) is None
    del output
    other = hold_folder(folder)
    assert other is not None
    with pytest.raises(BagError, match="out: another process is writing into it; wait for it"):
        OutputFolder(folder).begin({}, names)
    os.close(other)
    with pytest.raises(BagError, match=r"run\.json/out: cannot be written: Not a directory"):
        OutputFolder(folder / "run.json/out").begin({}, names)


def test_overwriting_removes_what_the_last_run_called_by_its_topics(tmp_path):
    folder = tmp_path / "out"
    two = ["/left/image", "/right/image"]
    OutputFolder(folder).begin({"image_topics": two}, result_topics(two))
    for name in ("overlay_left_image.mp4", "quality_right_image.json", "overlay_summer.mp4"):
        (folder / name).touch()
    OutputFolder(folder).begin({}, result_topics(["/front/image"]), overwrite=True)
    assert sorted(p.name for p in folder.iterdir()) == ["overlay_summer.mp4", "run.json"]


def test_several_cameras_have_their_own_results(street, make_flat_bag, tmp_path):
    with BagWriter(tmp_path / "two") as bag:
        make_flat_bag.fill(bag, range(4), "/left", truth=False)
        make_flat_bag.fill(bag, range(10, 13), "/right", truth=False, compressed=True)
    report = evaluate(tmp_path / "two", tmp_path / "out", street, topics=["/left", "/right"])
    assert [(t["topic"], t["frames"]) for t in report["topics"]] == [("/left", 4), ("/right", 3)]
    assert report["topics"][0]["quality"] is None
    assert (tmp_path / "out" / "overlay_left.mp4").exists()
    with BagReader(tmp_path / "out" / "annotated") as reader:
        assert reader.topics["/rt_panoptic/left/instances"].count == 4
        assert reader.topics["/rt_panoptic/right/semantic"].count == 3


def test_gaps_repeats_and_stamps_that_go_back_are_counted(make_flat_bag, street, tmp_path):
    steps = [0, 1, 2, 3, 7, 8, 8, 6, 9]
    stamps = [START + step * STEP for step in steps]
    path = make_flat_bag(frames=range(9), stamps=stamps)
    report = evaluate(path, tmp_path / "out", street)
    (topic,) = report["topics"]
    assert topic["notes"] == {"gap": 2, "back": 1, "repeat": 1}
    assert topic["problems"] == {"gaps in the stamps": 2, "stamps that do not rise": 2}
    assert topic["statuses"] == {"answered": 9}


def test_a_gap_is_judged_by_the_usual_step():
    pace = Pace()
    notes = [pace.note(stamp) for stamp in (0, 10, 20, 31, 50, 90, 100, 95, 95, 105)]
    assert notes == ["", "", "", "", "", "gap", "", "back", "repeat", ""]


def test_unreadable_frames_are_counted_named_and_skipped(make_flat_bag, street, tmp_path):
    path = tmp_path / "bag"
    with BagWriter(path) as bag:
        bag.add_topic("/camera/image", IMAGE)
        for number in range(6):
            time = START + number * STEP
            picture = image_message(street.scene(number).image, header(time, "camera"))
            if number == 2:
                picture.encoding = "mystery"
            if number == 4:
                bag.write_bytes("/camera/image", IMAGE, time, b"\x00\x01\x00\x00junk")
                continue
            bag.write("/camera/image", time, picture)
    report = evaluate(path, tmp_path / "out", street)
    (topic,) = report["topics"]
    assert topic["statuses"] == {"answered": 4, "unreadable": 2}
    problems = " ".join(topic["problems"])
    assert "'mystery' is not supported" in problems
    assert "do not hold a sensor_msgs/msg/Image" in problems
    with BagReader(tmp_path / "out" / "annotated") as reader:
        assert reader.topics["/rt_panoptic/instances"].count == 4
        assert reader.topics["/camera/image"].count == 6
    video = cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    video.release()


def test_a_picture_that_the_model_refuses_is_a_failed_frame(make_flat_bag, street, tmp_path):
    class Choosy:
        taxonomy = street.taxonomy

        def segment(self, image):
            if image[0, 0, 0] == 3:
                raise ImageError("too dark")
            return street.segment(image)

    path = make_flat_bag()
    report = evaluate(path, tmp_path / "out", street, answers=EngineAnswers(Choosy()))
    assert report["topics"][0]["statuses"] == {"answered": 7, "failed": 1}
    rows = list(csv.DictReader((tmp_path / "out" / "frames.csv").open(encoding="utf-8")))
    assert rows[3]["error"] == "too dark"


def test_results_of_a_replay_with_drops(make_flat_bag, street, tmp_path):
    path = make_flat_bag(truth=True)
    evaluate(path, tmp_path / "first", street)
    names = result_topics(["/camera/image"])

    class Dropping:
        """The recording, without frames 2 and 3."""

        def __init__(self, results):
            self._results = results
            self.close = results.close

        def take(self, frame):
            result = self._results.take(frame)
            return None if frame.number in (2, 3) else result

    from rt_panoptic_core.bags.annotate import RecordedResults

    results = RecordedResults(tmp_path / "first" / "annotated", names, street.taxonomy)
    latencies = {("/camera/image", number): 0.01 * number for number in range(8)}
    report = evaluate(
        path,
        tmp_path / "second",
        street,
        answers=ReplayAnswers(Dropping(results), latencies),
    )
    (topic,) = report["topics"]
    assert topic["statuses"] == {"answered": 6, "dropped": 2}
    assert topic["quality"]["frames"] == 6
    # No window of five reaches over the hole: frames 4 to 7 are four, 0 and 1 are two.
    assert topic["quality"]["video"]["windows"]["5"]["all"] is None
    rows = list(csv.DictReader((tmp_path / "second" / "frames.csv").open(encoding="utf-8")))
    assert [row["latency"] for row in rows] == ["0", "0.01", "", "", "0.04", "0.05", "0.06", "0.07"]
    video = cv2.VideoCapture(str(tmp_path / "second" / "overlay.mp4"))
    corners = [video.read()[1][:2, :8].max() for _ in rows]
    # The word's black ground, where the sky is else.
    assert [number for number, corner in enumerate(corners) if corner < 60] == [2, 3]


def test_what_is_copied_can_be_chosen(make_flat_bag, street, tmp_path):
    path = make_flat_bag()
    expected = {
        "all": {"/camera/image", "/ground_truth/semantic"},
        "images": {"/camera/image"},
        "none": set(),
    }
    for copy, topics in expected.items():
        plan = EvaluationPlan(copy=copy, video=False, overlay=False)
        evaluate(path, tmp_path / copy, street, plan=plan)
        with BagReader(tmp_path / copy / "annotated") as reader:
            found = {"/camera/image", "/ground_truth/semantic"} & set(reader.topics)
            assert found == topics
            assert "/rt_panoptic/overlay/compressed" not in reader.topics
        assert not (tmp_path / copy / "overlay.mp4").exists()


def test_a_bag_that_was_recorded_with_the_node_keeps_only_the_new_results(
    make_flat_bag, street, tmp_path
):
    evaluate(make_flat_bag(), tmp_path / "first", street)
    again = tmp_path / "first" / "annotated"
    evaluate(again, tmp_path / "second", street)
    with BagReader(tmp_path / "second" / "annotated") as reader:
        assert reader.topics["/rt_panoptic/instances"].count == 8


def test_results_of_a_node_of_another_name_are_left_out(make_flat_bag, street, tmp_path):
    path = tmp_path / "drive"
    picture = image_message(street.scene(0).image, header(START, "camera"))
    with BagWriter(path) as bag:
        bag.add_topic("/front/panoptic/instances", INSTANCES)
        for topic in ("/front/panoptic/overlay", "/front/panoptic/confidence", "/front/other"):
            bag.add_topic(topic, IMAGE)
            bag.write(topic, START, picture)
        make_flat_bag.fill(bag, range(2), "/camera/image", truth=False)
    evaluate(path, tmp_path / "out", street)
    with BagReader(tmp_path / "out" / "annotated") as reader:
        recorded = [name for name in reader.topics if not name.startswith("/rt_panoptic/")]
        assert sorted(recorded) == ["/camera/image", "/front/other"]
    evaluate(path, tmp_path / "named", street, topics=["/front/panoptic/overlay"])
    with BagReader(tmp_path / "named" / "annotated") as reader:
        assert reader.topics["/front/panoptic/overlay"].count == 1
        assert "/front/panoptic/confidence" not in reader.topics


def test_the_timing_tells_what_comes_on_top_of_inference():
    from rt_panoptic_core.bags.answers import Timing

    timing = Timing(elapsed=2.2, inference={"/a": [0.5, None, 0.5], "/b": [1.0]}, resumed=1)
    summary = timing_summary(timing)
    assert summary["inference"] == 2.0
    assert summary["on_top_of_inference"] == pytest.approx(0.1)
    assert (summary["frames_computed"], summary["frames_resumed"]) == (3, 1)


@pytest.mark.parametrize(
    ("matching", "said"),
    [
        (0, ": the nearest is 0.033 s off; --tolerance takes what is near"),
        # Where some are met, the others are those that nobody labelled.
        (2, ""),
    ],
)
def test_ground_truth_of_other_stamps_is_told_with_the_way_out(
    make_flat_bag, street, tmp_path, matching, said
):
    stamps = [START + n * STEP + (33_000_000 if n >= matching else 0) for n in range(8)]
    with BagWriter(tmp_path / "drive") as bag:
        make_flat_bag.fill(bag, range(8), "/camera/image", truth=False, stamps=stamps)
        make_flat_bag.fill(bag, range(8), "/other/image")
    (topic,) = evaluate(tmp_path / "drive", tmp_path / "out", street)["topics"]
    missed = f"frames without ground truth of their stamp{said}"
    assert topic["problems"][missed] == 8 - matching
