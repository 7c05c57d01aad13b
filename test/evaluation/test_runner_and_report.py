"""Running a model over a data set, and the report of it."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from rt_panoptic_core.datasets.sample import InstanceAnnotation, PanopticSample
from rt_panoptic_core.errors import DatasetError, TaxonomyError
from rt_panoptic_core.evaluation.evaluation import Evaluation
from rt_panoptic_core.evaluation.frame import Frame
from rt_panoptic_core.evaluation.report.charts import (
    BarRow,
    Line,
    Tile,
    bar_table,
    columns_chart,
    confusion_matrix,
    histogram,
    line_chart,
    percent,
    table,
    tiles,
)
from rt_panoptic_core.evaluation.report.evaluation_page import evaluation_page
from rt_panoptic_core.evaluation.report.page import Page, Section
from rt_panoptic_core.evaluation.report.pictures import (
    NOT_LABELLED,
    WRONG_CLASS,
    WRONG_INSTANCE,
    FrameGallery,
    error_map,
)
from rt_panoptic_core.evaluation.runner import evaluate
from rt_panoptic_core.inference.result import Detections, PanopticResult, Segment
from rt_panoptic_core.taxonomy import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, SKY, CAR = (CITYSCAPES.class_id(name) for name in ("road", "sky", "car"))


class Streets:
    """Samples of two cars on a road, the first car's size growing with the index; one is unreadable."""

    taxonomy = CITYSCAPES

    def __init__(self, length: int, broken: int | None = None, has_instances: bool = True) -> None:
        self._length, self._broken, self._has_instances = length, broken, has_instances

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> PanopticSample:
        if index == self._broken:
            raise DatasetError(f"frame{index}.png: the PNG is cut short")
        semantic = np.full((24, 40), ROAD, np.uint8)
        semantic[:6], semantic[-2:] = SKY, 255
        instance = np.zeros((24, 40), np.int32)
        for key, x in ((1, 2), (2, 24)):
            semantic[8:16, x : x + 8] = CAR
            instance[8:16, x : x + 8] = key
        image = np.full((24, 40, 3), index, np.uint8)
        cars = (InstanceAnnotation(1, CAR), InstanceAnnotation(2, CAR))
        if not self._has_instances:
            return PanopticSample(f"<{index}>", image, semantic, instance * 0, (), False)
        return PanopticSample(f"<{index}>", image, semantic, instance, cars)


class Model:
    """Answers with the truth, moved to the right by the brightness of the image."""

    taxonomy = CITYSCAPES
    ready = True

    def __init__(self) -> None:
        self.calls = 0

    def segment(self, image: np.ndarray) -> PanopticResult:
        self.calls += 1
        shift = int(image[0, 0, 0])
        sample = Streets(99)[0]
        semantic = np.roll(sample.semantic, shift, axis=1)
        instance = np.roll(sample.instance, shift, axis=1).astype(np.uint16)
        segments = [Segment(i, CAR, True, 0.5 + i / 10, 64, None) for i in (1, 2)]
        return PanopticResult(semantic, instance, segments)

    def is_ready(self, size: tuple[int, int]) -> bool:
        assert size == Streets(1)[0].image.shape[:2]
        return self.ready


def run(dataset, **options):
    evaluation = Evaluation(CITYSCAPES)
    problems = evaluate(Model(), dataset, evaluation, **options)
    return evaluation, problems


def test_every_frame_is_counted_in_order_and_timed():
    model, evaluation = Model(), Evaluation(CITYSCAPES)
    seen = []
    problems = evaluate(
        model, Streets(3), evaluation, on_frame=lambda e: seen.append(e.record.name)
    )
    assert problems == []
    assert seen == [frame.name for frame in evaluation.frames] == ["<0>", "<1>", "<2>"]
    # Once more than there are frames: the first of a size is not timed.
    assert model.calls == 4
    assert all(frame.latency_ms > 0 for frame in evaluation.frames)
    assert evaluation.frames[0].quality() == 1.0
    # Shifted by 1: 56 of 72 pixels of either car.
    assert evaluation.frames[1].segments[CAR] == pytest.approx((2, 0, 0, 2 * 56 / 72))


@pytest.mark.parametrize("overlap", [False, True])
def test_overlapping_changes_nothing_but_time(overlap):
    evaluation, problems = run(Streets(9, broken=4), overlap=overlap)
    straight, _ = run(Streets(9, broken=4))
    results = evaluation.record({}).results
    assert problems == ["frame4.png: the PNG is cut short"]
    assert [f.name for f in evaluation.frames] == [f"<{i}>" for i in range(9) if i != 4]
    expected = straight.record({}).results
    for key in ("panoptic", "boundary", "semantic", "instances", "recall"):
        assert str(results[key]) == str(expected[key])


@pytest.mark.parametrize("overlap", [False, True])
def test_labels_of_another_size_than_their_picture_are_named(overlap):
    class Torn(Streets):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return replace(sample, semantic=sample.semantic[::2, ::2]) if index == 1 else sample

    evaluation, problems = run(Torn(3), overlap=overlap)
    assert problems == [
        "<1>: the image is 40x24, its semantic map 20x12, its instance map 40x24; they must be of one size"
    ]
    assert [frame.name for frame in evaluation.frames] == ["<0>", "<2>"]


def test_chosen_samples_and_whole_masks():
    def detect(image):
        # One detection, of the left car exactly.
        masks = np.zeros((1, 24, 40), bool)
        masks[0, 8:16, 2:10] = True
        return Detections(
            np.zeros((1, 4), np.float32), np.array([CAR]), np.ones(1, np.float32), masks
        )

    evaluation, _ = run(Streets(5), indices=[4, 0], detect=detect)
    assert [f.name for f in evaluation.frames] == ["<4>", "<0>"]
    # 64 pixels are under the benchmark's 100: nothing to find.
    assert np.isnan(evaluation.instances.result().ap)


def test_an_engine_that_is_opened_again_is_not_timed():
    """A model that keeps few engines open has closed this one for another size's."""
    model = Model()
    model.ready = False
    evaluate(model, Streets(3), Evaluation(CITYSCAPES))
    assert model.calls == 6


def test_a_model_need_not_say_whether_it_is_ready():
    class Plain:
        taxonomy = CITYSCAPES

        def segment(self, image):
            return Model().segment(image)

    evaluation = Evaluation(CITYSCAPES)
    assert evaluate(Plain(), Streets(3), evaluation) == []
    assert len(evaluation.frames) == 3


def test_frames_tell_their_samples():
    for overlap in (False, True):
        seen = []
        run(Streets(5), indices=[4, 0, 2], overlap=overlap, on_frame=seen.append)
        assert [frame.index for frame in seen] == [4, 0, 2]


def test_an_error_of_the_model_is_not_swallowed():
    class Failing(Model):
        def segment(self, image):
            raise RuntimeError(f"device lost at {image.shape}")

    for overlap in (False, True):
        with pytest.raises(RuntimeError, match="device lost"):
            evaluate(Failing(), Streets(5), Evaluation(CITYSCAPES), overlap=overlap)


def test_other_classes_than_the_models_are_refused():
    streets = Streets(1)
    streets.taxonomy = Taxonomy.load("coco")
    with pytest.raises(TaxonomyError, match=r"'coco' \(133 classes\), the model's is 'cityscapes'"):
        run(streets)


# --- the error map


def test_error_map_says_what_is_wrong_where():
    sample = Streets(1)[0]
    semantic, instance = sample.semantic.copy(), sample.instance.astype(np.uint16)
    semantic[0, 0], semantic[0, 1] = ROAD, 255
    instance[8:10, 24:32] = 3  # part of the right car is another instance
    frame = Frame.of(sample, PanopticResult(semantic, instance, []), CITYSCAPES)
    errors = error_map(frame)
    assert tuple(errors[0, 0]) == WRONG_CLASS
    assert tuple(errors[0, 1]) == NOT_LABELLED
    assert tuple(errors[8, 24]) == WRONG_INSTANCE
    assert tuple(errors[23, 0]) == (0, 0, 0)
    assert tuple(errors[12, 28]) == tuple(errors[7, 0]) == (40, 40, 40)
    painted = (errors != 40).any(axis=2)
    assert painted.sum() == 2 + 16 + 2 * 40


# --- the report


class Tags(HTMLParser):
    """Checks that tags are closed in order, and collects what a page refers to."""

    VOID = ("meta", "img", "br", "link", "input", "rect", "line", "path")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.targets: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.targets += [values[key] for key in ("src", "href") if key in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag not in self.VOID or (tag in ("rect", "path") and not self._closed()):
            self.open.append(tag)

    def _closed(self) -> bool:
        return self.get_starttag_text().endswith("/>")

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page() -> str:
    evaluation = Evaluation(CITYSCAPES)
    gallery = FrameGallery(each=2, width=30)
    evaluate(Model(), Streets(7), evaluation, on_frame=gallery.add)
    record = evaluation.record({"model": "<script>alert(1)</script>", "dataset": "streets"})
    return evaluation_page(record, gallery.worst(), gallery.best()).html()


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(page):
    tags = Tags(page)
    for target in tags.targets:
        assert target.startswith(("data:image/jpeg;base64,", "#"))
        if target.startswith("#"):
            assert target[1:] in tags.ids
    assert "@import" not in page
    assert "url(" not in page
    assert not re.search(r"https?://", page)


def test_the_page_escapes_what_it_is_given(page):
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_page_has_every_section(page):
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Summary", "Classes", "Small and far", "Worst frames", "Best frames", "Confusion", "Frames",
    ]  # fmt: skip


def test_its_pictures_are_the_worst_and_the_best_frames(page):
    worst, best = page.index("<h2>Worst"), page.index("<h2>Best")
    assert re.findall(r"&lt;(\d)&gt;<br>", page[worst:best]) == ["6", "5"]
    assert re.findall(r"&lt;(\d)&gt;<br>", page[best:]) == ["0", "1"]
    picture = re.search(r"base64,([A-Za-z0-9+/=]+)", page).group(1)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(picture), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (18, 30, 3)


def test_data_without_instances_is_reported_as_semantics():
    evaluation = Evaluation(CITYSCAPES)
    gallery = FrameGallery(each=1)
    evaluate(Model(), Streets(2, has_instances=False), evaluation, on_frame=gallery.add)
    html = evaluation_page(evaluation.record({}), gallery.worst(), gallery.best()).html()
    Tags(html)
    assert "This data has no instances" in html
    assert "Small and far" not in html
    assert "mIoU 100.0" in html


class Unlabelled(Streets):
    """Streets in which nothing is labelled, or nothing but what is not a thing."""

    def __init__(self, length, stuff_only):
        super().__init__(length)
        self._stuff_only = stuff_only

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        semantic = np.where(sample.semantic == CAR, 255, sample.semantic)
        if not self._stuff_only:
            semantic[:] = 255
        return replace(sample, semantic=semantic, instance=sample.instance * 0, instances=())


def page_of(dataset) -> str:
    evaluation = Evaluation(CITYSCAPES)
    evaluate(Model(), dataset, evaluation)
    html = evaluation_page(evaluation.record({})).html()
    Tags(html)
    return html


def test_without_a_label_the_page_says_so():
    html = page_of(Unlabelled(2, stuff_only=False))
    assert "Nothing is labelled in these frames." in html
    assert "<th>SQ</th>" not in html
    assert "Small and far" not in html
    assert "things, no segment counts" in html


def test_without_a_thing_there_is_no_recall_of_things():
    html = page_of(Unlabelled(2, stuff_only=True))
    assert "Small and far" not in html
    assert "stuff, 2 classes" in html
    assert "A class without any occurs in pixels only" in html
    assert "TP, FP, FN" not in page_of(Streets(1, has_instances=False))


def test_names_of_marks_stand_above_the_bars():
    html = histogram([600.0, 605.0], unit="ms", marks=[("median", 602.0), ("99 %", 605.0)])
    tops = [float(y) for y in re.findall(r'<rect x="[\d.]+" y="([\d.]+)"', html)]
    names = [float(y) for y in re.findall(r'class="value" x="[\d.]+" y="([\d.]+)"', html)]
    assert len(tops) == len(names) == 2
    assert max(names) < min(tops)


def test_few_frames_are_shown_once():
    gallery = FrameGallery(each=4)
    evaluate(Model(), Streets(3), Evaluation(CITYSCAPES), on_frame=gallery.add)
    assert [panels.name for panels in gallery.worst()] == ["<2>", "<1>", "<0>"]
    assert gallery.best() == []


def test_a_page_of_ones_own_sections(tmp_path):
    page = Page("Bag", "of a drive", [("camera", "front")])
    line = Line("PQ", [0.0, 1.0, 2.0], [0.5, float("nan"), 0.7])
    page.add(Section("Over time", line_chart([line, line], x_title="s", spans=[(0.5, 1, "gap")])))
    page.add(Section("Empty", ""))
    page.write(tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text()
    tags = Tags(html)
    assert "over-time" in tags.ids
    assert "Empty" not in html
    # A missing value breaks the line: two pens down.
    assert len(re.findall(r'<path d="M[^L"]*M[^L"]*"', html)) == 2


def test_charts_of_nothing_are_empty():
    assert histogram([], unit="ms") == ""
    assert line_chart([], x_title="s") == ""
    assert columns_chart([], [], [], "") == ""
    assert table(["a"], []) == ""
    assert confusion_matrix(["a"], [(0, 0, 0)], np.zeros((1, 2), np.int64)) == ""


def test_charts_take_strange_values():
    assert "<rect" in histogram([5.0, 5.0], unit="ms", marks=[("median", 5.0)])
    assert "–" in bar_table(["PQ"], [("", [BarRow("a", float("nan"), None, ("1",))])])
    assert line_chart([Line("flat", [1.0], [0.0])], x_title="s")
    assert "&lt;b&gt;" in tiles([Tile("<b>", "1")])
    assert percent(None) == percent(float("nan")) == "–"
    assert percent(0.12345) == "12.3"


def test_of_many_classes_the_confusion_shows_those_with_most_pixels():
    confusion = np.zeros((5, 6), np.int64)
    confusion[np.arange(5), np.arange(5)] = [5, 1, 4, 3, 2]
    confusion[0, 5] = 5
    html = confusion_matrix(list("abcde"), [(0, 0, 0)] * 5, confusion, most=3)
    assert re.findall(r"<th>(\w) ", html) == ["a", "c", "d"]
    assert "a as unlabelled: 50.00 %" in html
