import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

import rt_panoptic_core.segmenter
from rt_panoptic_core import Segmenter
from rt_panoptic_core import segmenter as segmenter_module
from rt_panoptic_core.checkpoint import Checkpoint, load_checkpoint
from rt_panoptic_core.errors import CheckpointError, ConfigError, EngineError, ImageError
from rt_panoptic_core.inference.query_selection import Detected
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.taxonomy import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")


@pytest.fixture(scope="module")
def checkpoint(save_small_model):
    thresholds = {"score_threshold": 0.1, "mask_threshold": 0.05, "overlap_threshold": 0.0}
    return load_checkpoint(save_small_model(sees=True, seed=1, stuff_area_limit=0, **thresholds))


def open_segmenter(checkpoint, **options):
    return Segmenter(checkpoint, engine="pytorch", precision="fp32", device="cpu", **options)


@pytest.fixture(scope="module")
def segmenter(checkpoint):
    return open_segmenter(checkpoint)


def picture(height, width, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    return np.kron(values, np.ones((16, 16, 1)))[:height, :width].astype(np.uint8)


def check(result: PanopticResult, size):
    """A result is consistent in itself."""
    assert result.semantic.shape == result.instance.shape == size
    assert result.semantic.dtype == np.uint8
    assert result.instance.dtype == np.uint16
    assert ((result.semantic < 19) | (result.semantic == 255)).all()
    instances = result.instances
    assert [s.id for s in instances] == list(range(1, len(instances) + 1))
    assert set(np.unique(result.instance)) - {0} == {s.id for s in instances}
    assert [s.score for s in instances] == sorted((s.score for s in instances), reverse=True)
    for segment in result.segments:
        mask = (
            result.instance == segment.id
            if segment.is_thing
            else result.semantic == segment.class_id
        )
        assert mask.sum() == segment.area > 0
        assert (result.semantic[mask] == segment.class_id).all()
        assert CITYSCAPES[segment.class_id].is_thing == segment.is_thing
        if segment.box is None:
            assert not segment.is_thing
            assert segment.id == 0
        else:
            x1, y1, x2, y2 = segment.box
            assert 0 <= x1 <= x2 <= size[1]
            assert 0 <= y1 <= y2 <= size[0]
    assert not result.instance[~CITYSCAPES.is_thing[result.semantic]].any()


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (1, 1), (2, 300), (200, 3), (100, 100)])
def test_every_size_gives_a_result_of_that_size(segmenter, size):
    check(segmenter.segment(picture(*size)), size)


def test_instances_are_found(segmenter):
    result = segmenter.segment(picture(128, 192))
    assert len(result.instances) >= 2
    check(result, (128, 192))


@pytest.mark.parametrize("size", [(64, 96), (130, 70), (300, 500), (33, 1)])
def test_with_a_fixed_size_results_are_still_the_inputs(checkpoint, size):
    segmenter = open_segmenter(checkpoint, size=(64, 128))
    assert segmenter.engine_size(size) == (64, 128)
    check(segmenter.segment(picture(*size)), size)


def test_resizing_moves_boxes_with_the_picture(checkpoint):
    """Twice the picture through an engine of its size gives twice the boxes, and the same classes."""
    small = open_segmenter(checkpoint, size=(128, 192))
    image = picture(128, 192)
    double = np.kron(image, np.ones((2, 2, 1), np.uint8))
    first, second = small.segment(image), small.segment(double)
    assert len(first.instances) >= 1
    check(second, (256, 384))
    sampled = second.semantic[::2, ::2]
    assert (sampled == first.semantic).mean() > 0.9
    best = max(first.instances, key=lambda s: s.score)
    nearest = min(
        (s for s in second.instances if s.class_id == best.class_id),
        key=lambda s: sum(abs(2 * a - b) for a, b in zip(best.box, s.box, strict=True)),
    )
    assert nearest.box == pytest.approx([2 * c for c in best.box], abs=8)


def test_a_trained_size_is_aimed_at(checkpoint):
    aimed = Checkpoint(
        checkpoint.network,
        checkpoint.inference,
        {"pixels": str(64 * 96)},
        checkpoint.path,
        checkpoint.digest,
    )
    segmenter = open_segmenter(aimed)
    assert segmenter.engine_size((64, 96)) == (64, 96)
    # A little more or less is taken as it is, filled up to the stride.
    assert segmenter.engine_size((70, 96)) == (96, 96)
    assert segmenter.engine_size((640, 960)) == (64, 96)
    assert segmenter.engine_size((960, 640)) == (96, 64)
    check(segmenter.segment(picture(200, 300)), (200, 300))


def test_pictures_that_lack_less_than_a_stride_share_an_engine_and_are_not_resized(checkpoint):
    segmenter = open_segmenter(checkpoint)
    whole = open_segmenter(checkpoint, size=(65, 90))
    assert not segmenter.is_ready((65, 90))
    for size in ((65, 90), (96, 96), (80, 70)):
        image = picture(*size)
        assert segmenter.engine_size(size) == (96, 96)
        check(segmenter.segment(image), size)
        assert segmenter.is_ready(size)
    image = picture(65, 90)
    # What the network itself does with a picture that is no multiple of its stride.
    expected, found = whole.segment(image), segmenter.segment(image)
    assert (expected.semantic != found.semantic).mean() < 0.01
    assert len(expected.instances) == len(found.instances)


def test_the_engine_is_told_while_another_is_opened(checkpoint, monkeypatch):
    """A node's diagnostics ask on another thread; a build takes minutes."""
    segmenter = open_segmenter(checkpoint)
    segmenter.segment(picture(64, 96))
    first = segmenter.engine
    begun, gate = threading.Event(), threading.Event()
    real = rt_panoptic_core.segmenter.open_engine

    def open_slowly(*arguments, **options):
        begun.set()
        assert gate.wait(60)
        return real(*arguments, **options)

    monkeypatch.setattr("rt_panoptic_core.segmenter.open_engine", open_slowly)
    with ThreadPoolExecutor(2) as pool:
        opening = pool.submit(segmenter.prepare, (96, 96))
        assert begun.wait(60)
        told = pool.submit(lambda: segmenter.engine)
        try:
            assert told.result(60) is first
        finally:
            gate.set()
        assert opening.result() is segmenter.engine
    segmenter.close()
    assert segmenter.engine is None


def test_thresholds_that_are_none_are_refused_at_once(checkpoint):
    segmenter = open_segmenter(checkpoint)
    with pytest.raises(ConfigError, match=r"thresholds 0\.3: they must be Thresholds, for example"):
        segmenter.thresholds = 0.3
    assert segmenter.thresholds == checkpoint.inference.thresholds


def test_a_segmenter_says_what_it_is(checkpoint):
    segmenter = open_segmenter(checkpoint)
    assert repr(segmenter) == "<Segmenter small, pytorch>"
    segmenter.segment(picture(64, 96))
    assert repr(segmenter) == f"<Segmenter small, {segmenter.engine.spec.label}>"
    segmenter.close()


def test_a_header_with_a_senseless_size_is_explained(checkpoint):
    odd = Checkpoint(
        checkpoint.network,
        checkpoint.inference,
        {"pixels": "many"},
        checkpoint.path,
        checkpoint.digest,
    )
    with pytest.raises(CheckpointError, match="'pixels' in its header is 'many'"):
        open_segmenter(odd)


def test_detections_have_whole_masks_in_the_inputs_pixels(checkpoint):
    segmenter = open_segmenter(checkpoint, size=(128, 192))
    for size in ((128, 192), (256, 384), (140, 400)):
        found = segmenter.detect(picture(*size))
        assert len(found) > 0
        assert found.boxes.shape == (len(found), 4)
        assert found.boxes.dtype == found.scores.dtype == np.float32
        assert found.class_ids.dtype == np.int64
        assert found.masks.shape == (len(found), *size)
        assert found.masks.dtype == np.bool_
        assert found.masks.any() or size == (140, 400)
        assert set(found.class_ids.tolist()) <= set(CITYSCAPES.thing_ids)
        assert (np.diff(found.scores) <= 0).all()
        assert found.boxes[:, 2].max() <= size[1]
        assert found.boxes[:, 3].max() <= size[0]


def test_thresholds_can_be_set(checkpoint):
    from rt_panoptic_core.inference.config import Thresholds

    segmenter = open_segmenter(checkpoint)
    image = picture(128, 192)
    assert segmenter.segment(image).instances
    segmenter.thresholds = Thresholds(1.0, 0.05, 0.5, 0.0)
    assert not segmenter.segment(image).instances


def test_results_outlive_the_next_image(segmenter):
    first = segmenter.segment(picture(64, 96, 0))
    kept = first.semantic.copy(), first.instance.copy()
    segmenter.segment(picture(64, 96, 1))
    assert np.array_equal(first.semantic, kept[0])
    assert np.array_equal(first.instance, kept[1])


def test_views_and_read_only_arrays_are_taken(segmenter):
    wide = picture(64, 192)
    view = wide[:, ::2, ::-1]
    expected = segmenter.segment(view.copy())
    view.flags.writeable = False
    assert np.array_equal(segmenter.segment(view).semantic, expected.semantic)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            np.zeros((64, 96), np.uint8),
            "[64, 96]; it must be uint8 [H, W, 3], RGB; cv2.cvtColor(image,",
        ),
        (
            np.zeros((64, 96, 1), np.uint8),
            "[64, 96, 1]; it must be uint8 [H, W, 3], RGB; cv2.cvtCol",
        ),
        (
            np.zeros((64, 96, 4), np.uint8),
            "[64, 96, 4]; it must be uint8 [H, W, 3], RGB; image[..., :3]",
        ),
        (
            np.zeros((3, 64, 96), np.uint8),
            "[3, 64, 96]; it must be uint8 [H, W, 3], RGB; image.transpose",
        ),
        (
            np.zeros((1, 64, 96, 3), np.uint8),
            "[1, 64, 96, 3]; it must be uint8 [H, W, 3], RGB; one",
        ),
        (
            np.zeros((64, 96, 3), np.float32),
            "float32 [64, 96, 3]; it must be uint8 [H, W, 3], RGB; (image *",
        ),
        (
            np.zeros((64, 96, 3), np.uint16),
            "uint16 [64, 96, 3]; it must be uint8 [H, W, 3], RGB; (image //",
        ),
        (np.zeros((64, 96, 7), np.int8), "int8 [64, 96, 7]; it must be uint8 [H, W, 3], RGB"),
        (np.zeros((0, 96, 3), np.uint8), "0x96"),
        (np.zeros((64, 0, 3), np.uint8), "64x0"),
        (np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (20_000, 20_000, 3)), "20000x20000"),
        ([[0, 0, 0]], "list"),
        (None, "NoneType"),
    ],
)
def test_a_wrong_image_is_named_and_nothing_breaks(segmenter, image, words):
    for method in (segmenter.segment, segmenter.detect):
        with pytest.raises(ImageError) as caught:
            method(image)
        assert words in str(caught.value)
        assert "must" in str(caught.value)
    check(segmenter.segment(picture(64, 96)), (64, 96))


@pytest.mark.parametrize("size", [(0, 64), (64, -1), (20_000, 20_000)])
def test_a_wrong_engine_size_is_explained(checkpoint, size):
    with pytest.raises(ConfigError, match=f"{size[0]}x{size[1]}"):
        open_segmenter(checkpoint, size=size)


def test_a_model_that_is_not_there_is_explained():
    with pytest.raises(CheckpointError, match="nowhere"):
        Segmenter.from_checkpoint("nowhere")


def test_closing_frees_and_the_next_image_opens_again(checkpoint):
    segmenter = open_segmenter(checkpoint)
    segmenter.segment(picture(64, 96))
    assert segmenter.engine is not None
    segmenter.close()
    assert segmenter.engine is None
    check(segmenter.segment(picture(64, 96)), (64, 96))


def test_only_a_few_engines_stay_open(checkpoint):
    segmenter = open_segmenter(checkpoint)
    for width in range(32, 32 * 8, 32):
        segmenter.segment(picture(32, width))
    assert len(segmenter._engines) == 4


def test_after_a_failure_the_next_image_opens_another_engine(checkpoint, monkeypatch):
    segmenter = open_segmenter(checkpoint)
    image = picture(64, 96)
    expected = segmenter.segment(image)

    def fail(_):
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(segmenter.engine._graph, "predict", fail)
    with pytest.raises(EngineError, match="can't allocate memory"):
        segmenter.segment(image)
    assert np.array_equal(segmenter.segment(image).semantic, expected.semantic)


@pytest.mark.parametrize("engine", ["openvino", "pytorch"])
def test_a_picture_that_must_not_be_written_is_answered(checkpoint, engine, request):
    """As numpy gives one of PIL, in the very size of the engine: nothing copies it on the way."""
    if engine == "openvino":
        request.getfixturevalue("needs_openvino")
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    segmenter = Segmenter(checkpoint, engine=engine, size=(64, 96), device="cpu")
    expected = segmenter.segment(image.copy())
    image.flags.writeable = False
    assert np.array_equal(segmenter.segment(image).semantic, expected.semantic)
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, ::2] = image
    assert np.array_equal(segmenter.segment(wide[:, ::2]).semantic, expected.semantic)
    segmenter.close()


@pytest.mark.usefixtures("needs_openvino")
def test_threads_may_share_a_segmenter(checkpoint):
    images = [
        np.random.default_rng(seed).integers(0, 256, (64, 96, 3), np.uint8) for seed in range(3)
    ]
    segmenter = Segmenter(checkpoint, engine="openvino", size=(64, 96), device="cpu")
    expected = [segmenter.segment(image).semantic for image in images]

    def right(number):
        found = segmenter.segment(images[number % 3]).semantic
        return np.array_equal(found, expected[number % 3])

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(right, range(60)))
    segmenter.close()


@pytest.fixture
def throughput_segmenter(checkpoint, needs_openvino):
    """throughput_segmenter(**options): one that answers two pictures at a time."""
    return partial(
        Segmenter, checkpoint, engine="openvino", device="cpu", threads=2, mode="throughput"
    )


def test_map_answers_in_order_whatever_the_sizes_are(checkpoint, throughput_segmenter):
    sizes = [(64, 96), (64, 96), (32, 32), (64, 96), (48, 64), (48, 64), (64, 96), (32, 32)]
    images = [picture(*size, seed=seed) for seed, size in enumerate(sizes)]
    many = throughput_segmenter()
    alone = Segmenter(checkpoint, engine="openvino", device="cpu", threads=2)
    for segmenter in (alone, many):
        for image, found in zip(images, segmenter.map(iter(images)), strict=True):
            expected = alone.segment(image)
            assert np.array_equal(found.semantic, expected.semantic)
            assert np.array_equal(found.instance, expected.instance)
            assert found.segments == expected.segments
    assert (alone.engine.streams, many.engine.streams) == (1, 2)
    alone.close()
    many.close()


def test_map_reads_only_a_little_ahead(throughput_segmenter):
    segmenter, read = throughput_segmenter(), []

    def images():
        for number in range(20):
            read.append(number)
            yield picture(64, 96)

    results = segmenter.map(images())
    for number in range(8):
        next(results)
        assert len(read) <= number + 1 + segmenter.engine.streams + 1
    results.close()
    segmenter.close()


def test_an_image_that_is_none_ends_map_after_those_before_it(throughput_segmenter):
    segmenter = throughput_segmenter()
    images = [picture(64, 96), picture(64, 96), np.zeros((4, 4), np.uint8), picture(64, 96)]
    results = segmenter.map(images)
    check(next(results), (64, 96))
    check(next(results), (64, 96))
    with pytest.raises(ImageError, match="uint8 "):
        next(results)
    segmenter.close()


def test_an_error_of_what_gives_the_images_comes_after_their_results(throughput_segmenter):
    segmenter, results = throughput_segmenter(), []

    def images():
        for seed in range(5):
            yield picture(64, 96, seed)
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="the camera is gone"):
        results.extend(segmenter.map(images()))
    assert len(results) <= 5
    results.clear()
    with pytest.raises(OSError, match="the camera is gone"):
        for result in segmenter.map(images()):
            results.append(result)
    assert len(results) == 5
    segmenter.close()


def test_what_nobody_waits_for_is_not_begun(throughput_segmenter, monkeypatch):
    segmenter, begun, gate = throughput_segmenter(), [], threading.Event()
    segment = segmenter.segment

    def slow(image):
        begun.append(image)
        if len(begun) > 1:
            assert gate.wait(60)
        return segment(image)

    segmenter.prepare((64, 96))
    monkeypatch.setattr(segmenter, "segment", slow)
    results = segmenter.map(picture(64, 96, seed) for seed in range(20))
    next(results)
    threading.Timer(0.3, gate.set).start()
    results.close()
    # One is done, two are running; the fourth was waiting.
    assert len(begun) == 3
    segmenter.close()


def test_images_of_many_sizes_at_a_time_are_all_answered(throughput_segmenter):
    """More sizes than engines stay open: an image may wait for a stream of one that is closed."""
    segmenter = throughput_segmenter()
    sizes = [(32 + 8 * n, 64) for n in range(6)]
    images = [picture(*sizes[n % 6]) for n in range(48)]
    with ThreadPoolExecutor(6) as pool:
        for image, result in zip(images, pool.map(segmenter.segment, images), strict=True):
            check(result, image.shape[:2])
    assert len(segmenter._engines) <= 4
    segmenter.close()


def test_a_failure_of_one_stream_is_told_and_the_next_image_opens_another_engine(
    throughput_segmenter, monkeypatch
):
    segmenter = throughput_segmenter()
    image = picture(64, 96)
    expected = segmenter.segment(image)
    broken = segmenter.engine

    def fail(*_):
        raise RuntimeError("can't allocate memory")

    for lane in broken._lanes:
        monkeypatch.setattr(lane, "run", fail)
    with pytest.raises(EngineError, match="can't allocate memory"):
        list(segmenter.map([image] * 2))
    assert np.array_equal(segmenter.segment(image).semantic, expected.semantic)
    assert segmenter.engine is not broken
    segmenter.close()


def test_a_size_that_is_a_text_is_explained(checkpoint):
    with pytest.raises(ConfigError, match=r"size '64x128': it must be \(height, width\)"):
        Segmenter(checkpoint, size="64x128")


@pytest.mark.parametrize("size", [[64, 96], np.array([64, 96]), (np.int64(64), np.int32(96))])
def test_a_size_of_other_whole_numbers_is_taken(checkpoint, size):
    segmenter = open_segmenter(checkpoint, size=size)
    assert segmenter.engine_size((200, 300)) == (64, 96)
    check(segmenter.segment(picture(64, 96)), (64, 96))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 96}, r"size 96: it must be \(height, width\), two whole numbers"),
        ({"size": (96.0, 192.0)}, "two whole numbers"),
        ({"size": (96, 192, 3)}, "two whole numbers"),
        ({"size": {96, 192}}, "two whole numbers"),
        ({"engine": "onnx"}, "engine 'onnx': it must be one of auto, tensorrt"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"device": 0}, "device 0: it must be"),
        ({"device": "gpu"}, "device 'gpu'"),
        ({"threads": 0}, "threads 0: it must be a whole number, at least 1"),
        ({"threads": "2"}, "threads '2'"),
        ({"mode": "fast"}, "mode 'fast': it must be one of latency, throughput"),
        ({"calibration": "pictures"}, "calibration pictures: it is for precision int8"),
    ],
)
def test_wrong_options_are_told_at_once(checkpoint, options, words):
    with pytest.raises(ConfigError, match=words):
        Segmenter(checkpoint, **options)


def test_a_folder_for_calibration_that_is_not_there_is_told_at_once(checkpoint, tmp_path):
    for name, words in (("nope", "there is no such folder"), ("file", "it is no folder")):
        (tmp_path / "file").touch()
        with pytest.raises(EngineError, match=f"{name}: {words}; name a folder of images"):
            Segmenter(checkpoint, precision="int8", calibration=tmp_path / name)


@pytest.mark.parametrize("fixed", [None, (64, 96)])
@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((0, 5), "image: 0x5; it must have 1 pixel to 64 megapixels"),
        ((20_000, 20_000), "image: 20000x20000; .* megapixels; resize it, or cut it into pieces"),
        (
            np.zeros((64, 96, 3), np.uint8),
            r"^image size uint8 \[64, 96, 3\]: .* image.shape\[:2\]$",
        ),
        (5, "image size 5: it must be"),
        ("64x96", "image size '64x96': it must be"),
    ],
)
def test_sizes_that_no_image_has(checkpoint, fixed, size, words):
    segmenter = open_segmenter(checkpoint, size=fixed)
    for method in (segmenter.engine_size, segmenter.prepare):
        with pytest.raises(ImageError, match=words):
            method(size)


def test_results_are_equal_to_themselves_alone(segmenter):
    image = picture(64, 96)
    for method in (segmenter.segment, segmenter.detect):
        first, second = method(image), method(image)
        assert first != second
        assert len({first, second, first}) == 2


def test_what_is_found_beside_the_picture_is_left_out(checkpoint, monkeypatch):
    """The picture takes the left of the engine's input; a box to its right is no part of it."""
    boxes = torch.tensor([[150.0, 10, 190, 60], [10, 10, 40, 60], [80, 0, 120, 60]])
    found = Detected(boxes, torch.tensor([0, 1, 2]), torch.tensor([0.9, 0.8, 0.7]))

    def detect(_, __, image):
        masks = torch.zeros(3, *image.shape[1:3], dtype=torch.bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = True
        return found, iter(masks)

    monkeypatch.setattr("rt_panoptic_core.segmenter.detect", detect)
    detections = open_segmenter(checkpoint, size=(64, 192)).detect(picture(64, 96))
    assert detections.scores.tolist() == pytest.approx([0.8, 0.7])
    assert detections.boxes.tolist() == [[10, 10, 40, 60], [80, 0, 96, 60]]
    assert detections.class_ids.tolist() == list(CITYSCAPES.thing_ids[1:3])
    assert detections.masks.sum(axis=(1, 2)).tolist() == [30 * 50, 16 * 60]


def test_detections_take_the_threads_that_were_named(checkpoint, monkeypatch):
    before, seen = torch.get_num_threads(), []
    original = segmenter_module.detect

    def watched(*arguments):
        seen.append(torch.get_num_threads())
        return original(*arguments)

    monkeypatch.setattr(segmenter_module, "detect", watched)
    open_segmenter(checkpoint, threads=before + 1).detect(picture(64, 96))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_a_block_frees_the_engines(checkpoint):
    with open_segmenter(checkpoint) as segmenter:
        segmenter.segment(picture(64, 96))
        engine = segmenter.engine
    assert segmenter.engine is None
    with pytest.raises(EngineError, match="is closed"):
        engine.run(picture(64, 96))


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_segmenter_cannot_be_copied_and_says_what_to_do(segmenter, copied):
    with pytest.raises(TypeError, match="open one in each process"):
        copied(segmenter)
