"""Panoptic files: ids and colours, PNGs that must be refused, the JSON."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_panoptic_core import panoptic_png
from rt_panoptic_core.errors import DatasetError, ImageError, TaxonomyError
from rt_panoptic_core.files import hold_folder
from rt_panoptic_core.inference.result import PanopticResult, Segment
from rt_panoptic_core.panoptic_format import (
    PanopticWriter,
    coco_categories,
    encode_ids,
    ids_to_rgb,
    measure_segments,
    own_ids,
    panoptic_ids,
    read_annotations,
    read_ids,
    rgb_to_ids,
    split_cityscapes_ids,
    taxonomy_of_categories,
    write_ids,
)
from rt_panoptic_core.taxonomy import Taxonomy

CITYSCAPES = Taxonomy.load("cityscapes")
ROAD, CAR = CITYSCAPES.class_id("road"), CITYSCAPES.class_id("car")


def test_id_is_red_plus_256_green_plus_65536_blue():
    ids = np.array([[1, 256, 65536, 1 + 2 * 256 + 3 * 65536]])
    assert ids_to_rgb(ids).tolist() == [[[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 2, 3]]]


@given(hnp.arrays(np.int32, (3, 5), elements=st.integers(0, 0xFFFFFF)))
def test_colours_and_png_give_the_ids_back(ids):
    assert np.array_equal(rgb_to_ids(ids_to_rgb(ids)), ids)
    decoded = cv2.imdecode(np.frombuffer(encode_ids(ids), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(rgb_to_ids(decoded[..., ::-1]), ids)


@pytest.mark.parametrize("bad", [-1, 1 << 24])
def test_an_id_that_fits_no_colour_is_refused(bad):
    with pytest.raises(ImageError, match=str(bad)):
        ids_to_rgb(np.array([[bad]]))


def test_file_round_trip(tmp_path):
    ids = np.array([[0, 5], [70000, 0xFFFFFF]], np.int32)
    write_ids(tmp_path / "a.png", ids)
    read = read_ids(tmp_path / "a.png")
    assert read.dtype == np.int32
    assert np.array_equal(read, ids)


def test_alpha_is_ignored(tmp_path):
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., 2], pixels[..., 3] = 7, 0  # OpenCV's order is B G R A
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    assert np.array_equal(read_ids(tmp_path / "a.png"), np.full((2, 3), 7))


def _bad_pictures(folder: Path) -> dict[str, Path]:
    good = encode_ids(np.arange(600, dtype=np.int32).reshape(20, 30) * 1000)
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 0xFF
    _, grey = cv2.imencode(".png", np.zeros((4, 4), np.uint8))
    _, deep = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint16))
    _, jpeg = cv2.imencode(".jpg", np.zeros((4, 4, 3), np.uint8))
    contents = {
        "16 bits": deep.tobytes(),
        "grey": grey.tobytes(),
        "not a PNG": jpeg.tobytes(),
        "cut short": good[: len(good) // 2],
        "cut short.": good[:-12],
        "damaged": bytes(flipped),
        "not a PNG.": b"",
    }
    paths = {}
    for number, (reason, content) in enumerate(contents.items()):
        paths[reason] = folder / f"picture{number}.png"
        paths[reason].write_bytes(content)
    paths["no such picture"] = folder / "absent.png"
    return paths


@pytest.fixture(params=["fast decoder", "OpenCV"])
def decoder(request, monkeypatch):
    """Both ways of decoding: with kornia-rs, and without."""
    if request.param == "OpenCV":
        monkeypatch.setattr(panoptic_png, "_fast_decoder", None)
    elif panoptic_png._fast_decoder is None:
        pytest.skip("kornia-rs is not installed")


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (50, 3), (48, 64)])
def test_both_decoders_read_all_filters(tmp_path, shape):
    # The encoder chooses among PNG's five row filters by content: noise, ramps, plain areas.
    random = np.random.default_rng(0)
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    for ids in (
        random.integers(0, 1 << 24, shape),
        ys * 65536 + xs * 257,
        (ys // 5 + xs // 7) * 4000,
        np.zeros(shape, int),
    ):
        pixels = ids_to_rgb(ids)[..., ::-1].copy()
        for strategy in (cv2.IMWRITE_PNG_STRATEGY_DEFAULT, cv2.IMWRITE_PNG_STRATEGY_FILTERED):
            parameters = [cv2.IMWRITE_PNG_STRATEGY, strategy]
            if hasattr(cv2, "IMWRITE_PNG_FILTER"):
                parameters += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_ALL_FILTERS]
            assert cv2.imwrite(str(tmp_path / "a.png"), pixels, parameters)
            assert np.array_equal(read_ids(tmp_path / "a.png"), ids)


@pytest.mark.usefixtures("decoder")
def test_pictures_that_would_be_misread_are_refused_by_name(tmp_path):
    for reason, path in _bad_pictures(tmp_path).items():
        with pytest.raises(ImageError) as caught:
            read_ids(path)
        assert reason.rstrip(".") in str(caught.value)
        assert path.name in str(caught.value)


@pytest.mark.usefixtures("decoder")
def test_undecodable_but_well_formed_png_is_refused(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    path = tmp_path / "empty.png"
    # No pixels at all; more pixels than so few bytes can hold.
    for width, reason in ((4, "damaged|decoded"), (1 << 20, "cannot hold the 1048576x4 pixels")):
        header = struct.pack(">IIBBBBB", width, 4, 8, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        with pytest.raises(ImageError, match=rf"empty\.png.*({reason})"):
            read_ids(path)


def test_segments_are_measured():
    ids = np.array(
        [
            [0, 9, 9, 0],
            [4, 4, 9, 0],
            [4, 0, 0, 9],
        ]
    )
    table = measure_segments(ids)
    assert table.ids.tolist() == [4, 9]
    assert table.areas.tolist() == [3, 4]
    # x1, y1, x2, y2; an id need not be one blob
    assert table.boxes.tolist() == [[0, 1, 2, 3], [1, 0, 4, 3]]
    assert measure_segments(ids, void=None).ids.tolist() == [0, 4, 9]
    assert len(measure_segments(np.zeros((0, 5), np.int32)).ids) == 0


@settings(max_examples=50)
@given(
    hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(0, 4)
    )
)
def test_measures_are_those_of_each_mask(ids):
    table = measure_segments(ids, void=None)
    assert table.ids.tolist() == sorted(set(ids.ravel().tolist()))
    for value, area, box in zip(table.ids, table.areas, table.boxes, strict=True):
        ys, xs = np.nonzero(ids == value)
        assert area == len(ys)
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def _result() -> PanopticResult:
    semantic = np.array([[ROAD, ROAD, CAR], [255, CAR, CAR]], np.uint8)
    instance = np.array([[0, 0, 2], [0, 1, 0]], np.uint16)
    segments = [
        Segment(2, CAR, True, 0.9, 1, (2, 0, 3, 1)),
        Segment(1, CAR, True, 0.4, 1, (1, 1, 2, 2)),
        Segment(0, ROAD, False, 1.0, 2, None),
    ]
    return PanopticResult(semantic, instance, segments)


def test_a_thing_without_instance_is_void():
    ids = own_ids(_result().semantic, _result().instance, CITYSCAPES)
    road, car = (ROAD + 1) << 16, (CAR + 1) << 16
    assert ids.tolist() == [[road, road, car | 2], [0, car | 1, 0]]


def test_result_in_the_coco_form():
    ids, infos = panoptic_ids(_result(), CITYSCAPES)
    road, car = (ROAD + 1) << 16, (CAR + 1) << 16
    assert ids.tolist() == [[road, road, car | 2], [0, car | 1, 0]]
    assert infos == [
        {"id": road, "category_id": 7, "area": 2, "bbox": [0, 0, 2, 1], "iscrowd": 0},
        {
            "id": car | 1, "category_id": 26, "area": 1, "bbox": [1, 1, 1, 1], "iscrowd": 0,
            "score": 0.4,
        },
        {
            "id": car | 2, "category_id": 26, "area": 1, "bbox": [2, 0, 1, 1], "iscrowd": 0,
            "score": 0.9,
        },
    ]  # fmt: skip


def test_result_in_the_cityscapes_form_numbers_instances_by_score():
    ids, infos = panoptic_ids(_result(), CITYSCAPES, ids="cityscapes")
    assert ids.tolist() == [[7, 7, 26000], [0, 26001, 0]]
    assert sorted(info["id"] for info in infos) == [7, 26000, 26001]
    with pytest.raises(DatasetError, match="form"):
        panoptic_ids(_result(), CITYSCAPES, ids="voc")


def _with_class(class_id: int, *, in_segments: bool, is_thing: bool = True) -> PanopticResult:
    semantic = np.full((2, 3), 255 if in_segments else class_id, np.uint8)
    segments = [Segment(1, class_id, is_thing, 0.9, 6, (0, 0, 3, 2))] if in_segments else []
    return PanopticResult(semantic, np.ones((2, 3), np.uint16), segments)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (_with_class(CAR, in_segments=False), "class id 13: the taxonomy 'camvid' has 0 to 10;"),
        (_with_class(CAR, in_segments=True), "class id 13: the taxonomy 'camvid' has 0 to 10;"),
        (_with_class(-1, in_segments=True), "class id -1: the taxonomy 'camvid' has 0 to 10;"),
        (_with_class(0, in_segments=True), "0 as a thing: in the .* that is 'sky', stuff;"),
        (_with_class(8, in_segments=True, is_thing=False), "as stuff: .* that is 'car', a thing;"),
    ],
    ids=["pixels", "segment", "negative", "thing", "stuff"],
)
def test_a_result_of_another_label_set_is_refused(tmp_path, result, words):
    writer = PanopticWriter(tmp_path / "out", Taxonomy.load("camvid"))
    with pytest.raises(TaxonomyError, match=f"{words}.* of another label set"):
        writer.add("a", result)
    assert not writer.begun


def test_cityscapes_ids_are_taken_apart():
    labels, instances, crowd = split_cityscapes_ids(np.array([[7, 26, 26001, 0]]), [24, 26])
    assert labels.tolist() == [[7, 26, 26, 0]]
    assert instances.tolist() == [[0, 26, 26001, 0]]
    assert crowd.tolist() == [[False, True, False, False]]


def test_writer_makes_files_that_read_back(tmp_path):
    with PanopticWriter(tmp_path / "out", CITYSCAPES) as writer:
        writer.add(17, _result())
    content = read_annotations(tmp_path / "out.json")
    assert [a["file_name"] for a in content.annotations] == ["000000000017.png"]
    assert len(content.categories) == 19
    ids = read_ids(tmp_path / "out" / "000000000017.png")
    assert np.array_equal(ids, panoptic_ids(_result(), CITYSCAPES)[0])


def test_ids_of_any_kind_of_whole_number(tmp_path):
    with PanopticWriter(tmp_path / "out", CITYSCAPES) as writer:
        writer.add(np.int64(17), _result())
    assert [a["image_id"] for a in read_annotations(tmp_path / "out.json").annotations] == [17]


@pytest.mark.parametrize("image_id", ["../a", "/a", "a/../../b"])
def test_no_id_leads_out_of_the_folder(tmp_path, image_id):
    with pytest.raises(DatasetError, match="would be outside of"):
        PanopticWriter(tmp_path / "out", CITYSCAPES).add(image_id, _result())


def test_two_images_have_two_files(tmp_path):
    writer = PanopticWriter(tmp_path / "out", CITYSCAPES)
    writer.add(5, _result())
    writer.add(5, _result())
    with pytest.raises(DatasetError, match="is that of image 5; give it another id"):
        writer.add("000000000005", _result())


@pytest.mark.parametrize("add_to", [False, True])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ('{"annotations": [], "categories": [{"id": 1, "name": "a", "isthing": 1}]}', "else's"),
        ('{"annotations": [', "no JSON"),
    ],
)
def test_somebody_else_s_json_is_not_replaced(tmp_path, add_to, words, said):
    (tmp_path / "out.json").write_text(words)
    with pytest.raises(DatasetError, match=said):
        PanopticWriter(tmp_path / "out", CITYSCAPES, add_to=add_to)
    assert (tmp_path / "out.json").read_text() == words


def test_a_json_does_not_outlive_its_pngs(tmp_path):
    for _ in range(2):
        with PanopticWriter(tmp_path / "out", CITYSCAPES) as writer:
            writer.add(1, _result())
    writer = PanopticWriter(tmp_path / "out", CITYSCAPES)
    assert writer.json_path.is_file()
    writer.add(1, _result())
    assert not writer.json_path.exists()
    writer.close()
    adding = PanopticWriter(tmp_path / "out", CITYSCAPES, add_to=True)
    adding.add(2, _result())
    assert adding.drop(1)
    assert not adding.drop(1)
    adding.close()
    assert [a["image_id"] for a in read_annotations(tmp_path / "out.json").annotations] == [2]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000000002.png"]


def test_no_json_after_an_error(tmp_path):
    with pytest.raises(RuntimeError), PanopticWriter(tmp_path / "out", CITYSCAPES) as writer:
        writer.add(1, _result())
        raise RuntimeError
    assert not (tmp_path / "out.json").exists()


HOLDING = """
import sys, time
import numpy as np
from rt_panoptic_core.inference.result import PanopticResult
from rt_panoptic_core.panoptic_format import PanopticWriter
from rt_panoptic_core.taxonomy import Taxonomy

writer = PanopticWriter(sys.argv[1], Taxonomy.load("cityscapes"))
writer.add(9, PanopticResult(np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.uint16)))
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("add_to", [False, True])
def test_one_process_at_a_time_writes_into_a_folder(tmp_path, add_to):
    folder = tmp_path / "out"
    command = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(DatasetError, match="out: another process is writing into it; wait"):
                PanopticWriter(folder, CITYSCAPES, add_to=add_to)
        finally:
            other.kill()
    # However it ended; and its PNG is known.
    for _ in range(2):
        with PanopticWriter(folder, CITYSCAPES, add_to=add_to) as writer:
            writer.add(9, _result())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json"]


@pytest.mark.parametrize("way", ["close", "error", "forgotten", "let go"])
def test_a_writer_lets_go_of_its_folder(tmp_path, way):
    folder = tmp_path / "out"
    writer = PanopticWriter(folder, CITYSCAPES)
    again = PanopticWriter(folder, CITYSCAPES)
    del again
    assert not _is_free(folder)
    if way == "close":
        writer.close()
    elif way == "error":
        with pytest.raises(RuntimeError), writer:
            raise RuntimeError
    elif way == "forgotten":
        del writer
    else:
        writer.let_go()
    # Nothing came into it.
    assert not folder.exists()
    if way != "forgotten":
        with pytest.raises(DatasetError, match="out: its writer is closed; open another one"):
            writer.add(1, _result())
        there = (folder.with_name("out.json")).exists()
        writer.close()
        assert (folder.with_name("out.json")).exists() == there == (way == "close")
    folder.mkdir()
    assert _is_free(folder)


def _is_free(folder: Path) -> bool:
    handle = hold_folder(folder)
    if handle is None:
        return False
    os.close(handle)
    return True


@pytest.mark.parametrize("add_to", [False, True])
def test_somebody_else_s_png_is_not_replaced(tmp_path, add_to):
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("000000000001.png", "mine.png"):
        (folder / name).write_bytes(b"a photo")
    writer = PanopticWriter(folder, CITYSCAPES, add_to=add_to)
    with pytest.raises(DatasetError, match=r"01\.png: .* not replaced; write into another folder"):
        writer.add(1, _result())
    assert not writer.begun
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    writer.add(2, _result())
    writer.close()
    for name in ("000000000001.png", "mine.png"):
        assert (folder / name).read_bytes() == b"a photo"
    # A link that leads nowhere yet is somebody else's as well.
    (folder / "000000000003.png").symlink_to(tmp_path / "photo.png")
    with pytest.raises(DatasetError, match=r"03\.png: .* not replaced"):
        PanopticWriter(folder, CITYSCAPES, add_to=add_to).add(3, _result())


def test_pngs_of_an_interrupted_run_are_known(tmp_path):
    folder = tmp_path / "out"
    with PanopticWriter(folder, CITYSCAPES) as writer:
        for image_id in (1, 2, "three\n.png"):
            writer.add(image_id, _result())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json"]
    # Interrupted at once, and again later: the JSON that named the others is gone by then.
    for image_id in (1, 4):
        interrupted = PanopticWriter(folder, CITYSCAPES)
        interrupted.add(image_id, _result())
    interrupted.add("five", _result())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json.partial"]
    (folder / "mine.png").write_bytes(b"a photo")
    with PanopticWriter(folder, CITYSCAPES) as writer:
        writer.add(2, _result())
        writer.add("five", _result())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "000000000002.png",
        "five.png",
        "mine.png",
    ]


def test_what_is_added_to_keeps_the_pngs_of_an_interrupted_run(tmp_path):
    folder = tmp_path / "out"
    PanopticWriter(folder, CITYSCAPES).add(1, _result())
    with PanopticWriter(folder, CITYSCAPES, add_to=True) as writer:
        writer.add(2, _result())
    assert len(list(folder.iterdir())) == 2
    # That it is the writer's own is still known.
    with PanopticWriter(folder, CITYSCAPES, add_to=True) as writer:
        writer.add(1, _result())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.json"]
    assert len(read_annotations(tmp_path / "out.json").annotations) == 2


@pytest.mark.parametrize(
    "journal",
    [b"\xff\x00", b'"000000000001.p', b"[1]\n{}\n1\n", b'"../outside.png"\n', b"[" * 9999],
)
def test_a_damaged_journal_is_harmless(tmp_path, journal):
    folder = tmp_path / "out"
    folder.mkdir()
    kept = [folder / "000000000001.png", tmp_path / "outside.png"]
    for path in kept:
        path.write_bytes(b"a photo")
    (tmp_path / "out.json.partial").write_bytes(journal)
    with PanopticWriter(folder, CITYSCAPES) as writer:
        with pytest.raises(DatasetError, match="not replaced"):
            writer.add(1, _result())
        writer.add(2, _result())
    assert [path.read_bytes() for path in kept] == [b"a photo"] * 2
    assert not (tmp_path / "out.json.partial").exists()


def test_one_file_by_two_ways_is_one(tmp_path):
    writer = PanopticWriter(tmp_path / "out", CITYSCAPES)
    writer.add("a", _result())
    with pytest.raises(DatasetError, match="is that of image 'a'; give it another id"):
        writer.add("./a", _result())


def test_categories_of_a_taxonomy_read_back_with_things_first():
    stuff_first = taxonomy_of_categories(coco_categories(CITYSCAPES), "again")
    assert len(stuff_first) == 19
    assert stuff_first.thing_ids == tuple(range(8))
    assert stuff_first.names[0] == "person"
    assert stuff_first[0].source_id == 24


def test_coco_has_80_things_then_53_stuff_classes():
    coco = Taxonomy.load("coco")
    assert coco.thing_ids == tuple(range(80))
    assert len(coco) == 133
    person, last = coco[0], coco[132]
    assert (person.name, person.color, person.source_id) == ("person", (220, 20, 60), 1)
    assert (last.name, last.source_id, last.is_thing) == ("rug-merged", 200, False)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"annotations": None}, "'annotations'"),
        ({"categories": []}, "'categories'"),
        ({"categories": [{"id": 1, "name": "a", "isthing": 2}]}, "categories[0]"),
        (
            {"images": [{"id": 7, "file_name": "a.jpg"}] * 2 + [{"id": 7, "file_name": "b.jpg"}]},
            "images[2] ('b.jpg'): its id 7 is that of 'a.jpg' too",
        ),
        ({"categories": [{"id": 1, "name": "a", "isthing": 1}] * 2}, "used twice"),
        ({"annotations": [{"image_id": 1, "segments_info": []}]}, "'file_name'"),
        ({"annotations": [{"file_name": "a", "segments_info": []}]}, "'image_id'"),
        (
            {"annotations": [{"image_id": 1, "file_name": "a", "segments_info": [{"id": "x"}]}]},
            "segments_info[0]",
        ),
        ({"images": [{}]}, "images[0]"),
    ],
)
def test_malformed_json_is_named_with_its_place(tmp_path, change, place):
    content = {"annotations": [], "categories": [{"id": 1, "name": "a", "isthing": 1}]} | change
    (tmp_path / "gt.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError) as caught:
        read_annotations(tmp_path / "gt.json")
    assert "gt.json" in str(caught.value)
    assert place in str(caught.value)


def test_unreadable_json_is_named(tmp_path):
    (tmp_path / "gt.json").write_bytes(b"{ \xff")
    with pytest.raises(DatasetError, match=r"gt\.json: no JSON"):
        read_annotations(tmp_path / "gt.json")
    with pytest.raises(DatasetError, match=r"absent\.json"):
        read_annotations(tmp_path / "absent.json")
