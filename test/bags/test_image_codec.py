"""Bytes of image messages to RGB and back; expected values by hand."""

from array import array

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rt_panoptic_core import image_codec
from rt_panoptic_core.errors import ImageError
from rt_panoptic_core.image_codec import (
    ENCODINGS,
    decode_compressed,
    decode_depth,
    decode_image,
    decode_plane,
    encode_array,
    encode_compressed,
)

RED, GREEN, BLUE, GREY = [255, 0, 0], [0, 255, 0], [0, 0, 255], [77, 77, 77]
# Two rows of two pixels: red green / blue grey.
PICTURE = np.array([[RED, GREEN], [BLUE, GREY]], dtype=np.uint8)


def padded(rows, step):
    """Bytes of rows, each filled up to ``step`` with a value that would show if it were used."""
    return b"".join(bytes(row) + b"\xaa" * (step - len(bytes(row))) for row in rows)


@pytest.mark.parametrize(
    ("encoding", "order"),
    [
        ("rgb8", [0, 1, 2]),
        ("bgr8", [2, 1, 0]),
        ("8UC3", [2, 1, 0]),
        ("rgba8", [0, 1, 2, None]),
        ("bgra8", [2, 1, 0, None]),
        ("8UC4", [2, 1, 0, None]),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_colours_of_eight_bits(encoding, order, padding):
    rows = [
        [9 if channel is None else pixel[channel] for pixel in row for channel in order]
        for row in PICTURE.tolist()
    ]
    step = len(rows[0]) + padding
    decoded = decode_image(encoding, 2, 2, step, False, padded(rows, step))
    np.testing.assert_array_equal(decoded, PICTURE)


@pytest.mark.parametrize(("encoding", "order"), [("rgb16", [0, 1, 2]), ("bgr16", [2, 1, 0])])
@pytest.mark.parametrize("big", [False, True])
def test_colours_of_sixteen_bits(encoding, order, big):
    wide = PICTURE[..., order].astype(">u2" if big else "<u2") * 257
    rows = [row.tobytes() for row in wide]
    decoded = decode_image(encoding, 2, 2, 14, big, padded(rows, 14))
    np.testing.assert_array_equal(decoded, PICTURE)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey(encoding):
    decoded = decode_image(encoding, 2, 2, 3, False, bytes([1, 2, 99, 3, 4, 99]))
    assert decoded.tolist() == [[[1] * 3, [2] * 3], [[3] * 3, [4] * 3]]


@pytest.mark.parametrize("big", [False, True])
def test_sixteen_bits_become_eight_by_rounding_for_every_value(big):
    values = np.arange(65536).reshape(256, 256)
    data = values.astype(">u2" if big else "<u2").tobytes()
    decoded = decode_image("mono16", 256, 256, 512, big, data)
    np.testing.assert_array_equal(decoded[..., 1], np.rint(values / 257))


@pytest.mark.parametrize(
    ("encoding", "pattern"),
    [
        ("bayer_rggb8", [[0, 1], [1, 2]]),
        ("bayer_bggr8", [[2, 1], [1, 0]]),
        ("bayer_gbrg8", [[1, 2], [0, 1]]),
        ("bayer_grbg8", [[1, 0], [2, 1]]),
    ],
)
def test_a_bayer_mosaic_of_one_colour_is_that_colour(encoding, pattern):
    color = np.array([200, 120, 40], dtype=np.uint8)
    mosaic = color[np.tile(np.array(pattern), (4, 4))]
    decoded = decode_image(encoding, 8, 8, 8, False, mosaic.tobytes())
    np.testing.assert_array_equal(decoded, np.broadcast_to(color, (8, 8, 3)))
    wide = mosaic.astype("<u2") * 257
    decoded = decode_image(encoding.replace("8", "16"), 8, 8, 16, False, wide.tobytes())
    np.testing.assert_array_equal(decoded, np.broadcast_to(color, (8, 8, 3)))


# BT.601, limited range: Y 81, U 90, V 240 is red; Y 145, U 54, V 34 is green.
@pytest.mark.parametrize(
    ("encoding", "quad"),
    [
        ("uyvy", [90, 81, 240, 81]),
        ("yuv422", [90, 81, 240, 81]),
        ("yuyv", [81, 90, 81, 240]),
        ("yuv422_yuy2", [81, 90, 81, 240]),
    ],
)
def test_yuv422(encoding, quad):
    rows = [quad * 2] * 2
    decoded = decode_image(encoding, 2, 4, 11, False, padded(rows, 11))
    assert decoded.shape == (2, 4, 3)
    assert np.abs(decoded.astype(int) - RED).max() <= 2


@pytest.mark.parametrize(("encoding", "chroma"), [("nv12", [54, 34]), ("nv21", [34, 54])])
def test_semi_planar_with_padded_rows(encoding, chroma):
    rows = [[145] * 4] * 2 + [chroma * 2]
    decoded = decode_image(encoding, 2, 4, 6, False, padded(rows, 6))
    assert np.abs(decoded.astype(int) - GREEN).max() <= 2


def test_rgb8_is_a_view_and_everything_else_is_new():
    data = np.arange(24, dtype=np.uint8)
    view = decode_image("rgb8", 2, 3, 12, False, data)
    assert np.shares_memory(view, data)
    assert not np.shares_memory(decode_image("bgr8", 2, 3, 12, False, data), data)


@pytest.mark.parametrize("hold", [bytes, bytearray, memoryview, lambda b: array("B", b)])
def test_every_buffer_that_messages_come_in(hold):
    decoded = decode_image("rgb8", 2, 2, 6, False, hold(PICTURE.tobytes()))
    np.testing.assert_array_equal(decoded, PICTURE)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_refuses_too_little(encoding):
    with pytest.raises(ImageError, match="step 1 is less"):
        decode_image(encoding, 2, 4, 1, False, bytes(400))
    with pytest.raises(ImageError, match="10 bytes of data are less"):
        decode_image(encoding, 2, 4, 64, False, bytes(10))
    with pytest.raises(ImageError, match="has none"):
        decode_image(encoding, 0, 4, 64, False, bytes(400))


@pytest.mark.parametrize(
    ("encoding", "size", "words"),
    [
        ("uyvy", (6, 3), "uyvy image of 3x6: .* of even width"),
        ("yuv422_yuy2", (480, 641), "yuv422_yuy2 image of 641x480: .* of even width"),
        ("nv12", (3, 4), "nv12 image of 4x3: .* of even size"),
        ("nv21", (2, 3), "nv21 image of 3x2: .* of even size"),
    ],
)
def test_shared_chroma_refuses_odd_sizes(encoding, size, words):
    with pytest.raises(ImageError, match=words):
        decode_image(encoding, *size, 1282, False, bytes(1282 * 480))


def test_yuv422_of_odd_height_is_an_image():
    assert decode_image("uyvy", 3, 4, 8, False, bytes(24)).shape == (3, 4, 3)


def test_an_image_without_encoding_and_pixels_is_told_so():
    with pytest.raises(ImageError, match=r"^image of 0x0 pixels has none"):
        decode_image("", 0, 0, 0, False, b"")


def test_an_unknown_encoding_is_named_with_the_known_ones():
    with pytest.raises(ImageError, match="'bayer_x' is not supported; one of rgb8, bgr8"):
        decode_image("bayer_x", 2, 2, 4, False, bytes(8))


def test_labels_and_ids_come_back_as_they_are():
    plane = decode_plane("mono16", 1, 3, 8, True, bytes([0, 1, 1, 0, 255, 255, 9, 9]))
    assert plane.dtype == np.uint16
    assert plane.tolist() == [[1, 256, 65535]]
    packed = np.array([[13 << 16 | 7]], dtype="<i4")
    assert decode_plane("32SC1", 1, 1, 4, False, packed.tobytes()).tolist() == [[13 << 16 | 7]]
    assert decode_plane("mono8", 1, 2, 2, True, bytes([19, 255])).tolist() == [[19, 255]]
    with pytest.raises(ImageError, match="'rgb8' does not hold one value"):
        decode_plane("rgb8", 1, 1, 3, False, bytes(3))


def test_depth_in_metres():
    millimetres = np.array([[0, 1500]], dtype="<u2").tobytes()
    metres = decode_depth("16UC1", 1, 2, 4, False, millimetres)
    assert metres.dtype == np.float32
    assert np.isnan(metres[0, 0])
    assert metres[0, 1] == pytest.approx(1.5)
    exact = np.array([[0.25, np.inf]], dtype="<f4")
    np.testing.assert_array_equal(decode_depth("32FC1", 1, 2, 8, False, exact.tobytes()), exact)
    with pytest.raises(ImageError, match="rgb8"):
        decode_depth("rgb8", 1, 1, 3, False, bytes(3))


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]),
        st.tuples(st.integers(1, 5), st.integers(1, 5)),
    )
)
def test_planes_survive_a_round_trip(plane):
    encoding, step, data = encode_array(plane)
    back = decode_plane(encoding, *plane.shape, step, False, data)
    assert back.dtype == plane.dtype
    np.testing.assert_array_equal(back, plane)


def test_pictures_survive_a_round_trip_also_from_a_slice():
    wide = np.random.default_rng(0).integers(0, 256, (4, 9, 3), dtype=np.uint8)
    encoding, step, data = encode_array(wide[:, 2:7])
    np.testing.assert_array_equal(decode_image(encoding, 4, 5, step, False, data), wide[:, 2:7])
    with pytest.raises(ImageError, match="float64"):
        encode_array(np.zeros((2, 2)))


def test_png_is_exact_and_jpeg_close():
    name, data = encode_compressed(PICTURE, "png")
    assert name == "rgb8; png compressed bgr8"
    np.testing.assert_array_equal(decode_compressed(name, data), PICTURE)
    smooth = np.full((32, 32, 3), [180, 90, 30], dtype=np.uint8)
    name, data = encode_compressed(smooth, "jpeg", quality=95)
    assert np.abs(decode_compressed("", data).astype(int) - smooth).max() <= 3


def test_compressed_labels_keep_sixteen_bits_only_as_png():
    ids = np.array([[1, 60000]], dtype=np.uint16)
    _, data = encode_compressed(ids, "png")
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(back, ids)
    with pytest.raises(ImageError, match="mono16"):
        encode_compressed(ids, "jpeg")


def test_a_png_with_one_bit_turned_is_no_image(capfd):
    """Of which OpenCV would decode the upper part, and say the rest on standard error."""
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    _, data = encode_compressed(picture, "png")
    turned = bytearray(data)
    turned[len(data) // 2] ^= 4
    with pytest.raises(
        ImageError, match=r"compressed image: the PNG is damaged \(checksum of IDAT\)"
    ):
        decode_compressed("png", bytes(turned))
    assert capfd.readouterr().err == ""
    for message_data in (data, array("B", data), np.frombuffer(data, np.uint8)):
        assert np.array_equal(decode_compressed("png", message_data), picture)


@pytest.mark.parametrize(
    ("kind", "said"), [("jpeg", r"jpeg of \d+ bytes is cut off"), ("png", "PNG is cut short")]
)
def test_a_cut_off_picture_is_an_error_not_a_grey_picture(kind, said):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    _, data = encode_compressed(noise, kind)
    with pytest.raises(ImageError, match=said):
        decode_compressed(kind, data[: len(data) // 2])


SMOOTH = cv2.GaussianBlur(
    np.random.default_rng(0).integers(0, 255, (180, 320, 3), dtype=np.uint8), (0, 0), 9
)
JPEG = encode_compressed(SMOOTH, "jpeg")[1]


def test_a_jpeg_that_is_damaged_inside_is_no_image(capfd):
    """Of which OpenCV would paint the rest in grey, and say so on standard error alone."""
    pytest.importorskip("kornia_rs")
    damaged = JPEG[:2000] + bytes(1000) + JPEG[3000:]
    with pytest.raises(ImageError, match=r"jpeg of \d+ bytes is damaged: some of it cannot be"):
        decode_compressed("jpeg", damaged)
    # Cut off, and ended by whoever filled up what was missing.
    with pytest.raises(ImageError, match="is damaged"):
        decode_compressed("jpeg", JPEG[:3000] + bytes(500) + b"\xff\xd9")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data",
    [
        JPEG[:-2] + bytes(100) + JPEG[-2:],
        JPEG + b"what a camera writes behind it",
        np.frombuffer(JPEG, np.uint8),
        array("B", JPEG),
    ],
    ids=["filled up", "more behind it", "numpy", "array"],
)
def test_a_jpeg_is_what_opencv_makes_of_it(data):
    expected = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode_compressed("", data), expected[..., ::-1])


@pytest.mark.parametrize("parameter", [cv2.IMWRITE_JPEG_PROGRESSIVE, cv2.IMWRITE_JPEG_RST_INTERVAL])
def test_jpegs_of_other_kinds(parameter):
    grey = SMOOTH[..., 1]
    data = cv2.imencode(".jpg", grey, [parameter, 1])[1]
    expected = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(decode_compressed("", data), np.dstack([expected] * 3))


def test_without_the_strict_decoder_opencv_decodes(monkeypatch):
    monkeypatch.setattr(image_codec, "_jpeg_decoder", None)
    assert np.abs(decode_compressed("", JPEG).astype(int) - SMOOTH).mean() < 3


def test_other_content_is_named_by_its_format():
    with pytest.raises(ImageError, match="'h264' is neither jpeg nor png"):
        decode_compressed("h264", b"\x00\x00\x00\x01\x67")
    with pytest.raises(ImageError, match=r"of format 'jpeg' is empty: it has no data$"):
        decode_compressed("jpeg", b"")
    with pytest.raises(ImageError, match="damaged"):
        decode_compressed("jpeg", b"\xff\xd8" + bytes(20) + b"\xff\xd9")
