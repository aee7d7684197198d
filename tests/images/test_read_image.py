"""Pictures as cameras, phones and web sites make them: decoded rightly, or refused by name."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps
from reaas.images import DecodeOptions, ImageFileError, as_rgb8, pixels_digest, read_image

_Y, _X = np.mgrid[0:32, 0:48]
RAMP: NDArray[np.uint8] = np.stack([_X * 5, _Y * 8, _X * 2 + _Y * 3], -1).astype(np.uint8)
GREY: NDArray[np.uint8] = RAMP[..., 0]
WHITE, BLUE = (255, 255, 255), (0, 0, 255)


def _close(pixels: NDArray[Any], loss: float) -> None:
    assert pixels.dtype == np.uint8
    difference = np.abs(pixels.astype(int) - RAMP.astype(int))
    assert difference.mean() <= loss


@pytest.mark.parametrize(
    ("name", "mode", "loss"),
    [
        ("a.png", "RGB", 0),
        ("a.bmp", "RGB", 0),
        ("a.tif", "RGB", 0),
        ("a.tga", "RGB", 0),
        ("a.ppm", "RGB", 0),
        ("a.jpg", "RGB", 3),
        ("a.jp2", "RGB", 3),
        ("a.webp", "RGB", 6),
        ("cmyk.jpg", "CMYK", 3),
        ("cmyk.tif", "CMYK", 0),
        ("ycbcr.jpg", "YCbCr", 3),
        ("ycbcr.tif", "YCbCr", 3),
        ("lab.tif", "LAB", 3),
        ("palette.png", "P", 30),
        ("palette.gif", "P", 30),
        ("with blanks (1) Ünïcode-日本.png", "RGB", 0),
    ],
)
def test_every_colour_mode_becomes_the_picture(
    tmp_path: Path, name: str, mode: str, loss: float
) -> None:
    Image.fromarray(RAMP).convert(mode).save(tmp_path / name)
    _close(read_image(tmp_path / name), loss)


def test_a_file_is_what_it_holds_and_not_what_it_is_called(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", "PNG")
    _close(read_image(tmp_path / "a.jpg"), 0)


@pytest.mark.parametrize("name", ["g.png", "g.tif", "g.pgm", "g.jp2"])
def test_sixteen_bits_of_grey_keep_their_scale(tmp_path: Path, name: str) -> None:
    values = (_X * 1394).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / name)
    pixels = read_image(tmp_path / name)
    assert (pixels.dtype.name, pixels.shape) == ("float32", (32, 48, 1))
    np.testing.assert_allclose(pixels[..., 0], values / 65535, atol=1e-3 if "jp2" in name else 1e-7)


def _tiff(values: NDArray[Any], photometric: int, bits: int, packed: bytes) -> bytes:
    """A TIFF of one strip with these very tags."""
    height, width = values.shape
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1)]
    entries += [(262, 3, photometric), (273, 4, 8 + 2 + 12 * 9 + 4), (277, 3, 1), (278, 4, height)]
    entries += [(279, 4, len(packed))]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, 9) + directory + b"\0" * 4 + packed


def test_white_may_be_zero_and_the_largest_value_less_than_16_bits(tmp_path: Path) -> None:
    values = (_X * 1394).astype("<u2")
    (tmp_path / "inverted.tif").write_bytes(_tiff(values, 0, 16, values.tobytes()))
    inverted = read_image(tmp_path / "inverted.tif")[..., 0]
    np.testing.assert_allclose(inverted, 1 - values / 65535, atol=1e-7)
    twelve = (_X[:, ::2] * 85).astype(int)  # 0..3910 of 4095
    even, odd = twelve[:, ::2], twelve[:, 1::2]
    packed = np.stack([even >> 4, (even & 15) << 4 | odd >> 8, odd & 255], -1).astype(np.uint8)
    (tmp_path / "twelve.tif").write_bytes(_tiff(twelve, 1, 12, packed.tobytes()))
    np.testing.assert_allclose(
        read_image(tmp_path / "twelve.tif")[..., 0], twelve / 4095, atol=1e-7
    )


def test_integers_without_a_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray((_X * 100000).astype(np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(ImageFileError, match=r"i\.tif has signed or 32-bit integers \(0 to 47"):
        read_image(tmp_path / "i.tif")


@pytest.mark.parametrize(
    ("scale", "message"),
    [(1.0, None), (255.0, "0 to 255.*is it 0..255"), (-1.0, "-1 to 0.*normalised"), (1e4, "10000")],
)
def test_floats_are_what_they_are_within_the_unit_range(
    tmp_path: Path, scale: float, message: str | None
) -> None:
    values = (_X / 47 * scale).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "f.tif")
    if message is None:
        np.testing.assert_array_equal(read_image(tmp_path / "f.tif")[..., 0], values)
        return
    with pytest.raises(ImageFileError, match=rf"f\.tif has values from .*{message}") as caught:
        read_image(tmp_path / "f.tif")
    assert caught.value.limit == "[0,1]"


def test_floats_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    values = np.zeros((4, 4), np.float32)
    for wrong in (np.nan, np.inf):
        values[1, 1] = wrong
        Image.fromarray(values).save(tmp_path / "n.tif")
        with pytest.raises(ImageFileError, match="not every value is a finite number"):
            read_image(tmp_path / "n.tif")


@pytest.mark.parametrize("name", ["e.jpg", "e.png", "e.webp", "e.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(RAMP)
    picture.save(tmp_path / name, exif=exif, lossless=True, quality=98)
    with Image.open(tmp_path / name) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    found = read_image(tmp_path / name)
    assert found.shape == ((48, 32, 3) if orientation > 4 else (32, 48, 3))
    np.testing.assert_array_equal(found, wanted)


def test_a_broken_exif_block_says_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(RAMP).save(
        file, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken", quality=95
    )
    _close(read_image(file), 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_hidden_colours_are_never_used(tmp_path: Path, mode: str) -> None:
    alpha = np.where(_X < 24, 0, 255).astype(np.uint8)
    picture = Image.fromarray(RAMP).convert("L" if mode != "RGBA" else "RGB")
    if mode == "PA":
        picture = picture.convert("P")
    picture.putalpha(Image.fromarray(alpha))
    path = tmp_path / ("t.png" if mode != "PA" else "t.tif")
    picture.convert("RGBA" if mode == "PA" else mode).save(path)
    with pytest.raises(ImageFileError, match=r"t\.\w+ has transparent pixels.*--background"):
        read_image(path)
    for background in (WHITE, BLUE):
        pixels = read_image(path, DecodeOptions(background=background))
        assert np.all(pixels[:, :24] == np.array(background)[: pixels.shape[2]])
        shown = (
            RAMP if mode == "RGBA" else np.asarray(Image.fromarray(RAMP).convert("L"))[..., None]
        )
        np.testing.assert_array_equal(
            pixels[:, 24:], np.broadcast_to(shown[:, 24:], pixels[:, 24:].shape)
        )


def test_half_transparent_is_half_of_each(tmp_path: Path) -> None:
    rgba = np.dstack([RAMP, np.full(GREY.shape, 51, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "h.png")
    pixels = read_image(tmp_path / "h.png", DecodeOptions(background=WHITE))
    np.testing.assert_allclose(pixels, 0.2 * RAMP + 0.8 * 255, atol=0.51)


def test_opaque_alpha_hides_nothing(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([RAMP, np.full(GREY.shape, 255, np.uint8)])).save(tmp_path / "o.png")
    np.testing.assert_array_equal(read_image(tmp_path / "o.png"), RAMP)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_transparent_colour_of_a_png_is_transparency(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(GREY if mode == "L" else RAMP).convert(mode)
    corner = picture.getpixel((0, 0))
    picture.save(tmp_path / "c.png", transparency=corner)
    with pytest.raises(ImageFileError, match="transparent pixels"):
        read_image(tmp_path / "c.png")
    pixels = read_image(tmp_path / "c.png", DecodeOptions(background=WHITE))
    assert np.all(pixels[0, 0] == 255)


@pytest.mark.parametrize("name", ["m.gif", "m.png", "m.webp", "m.tif"])
def test_of_several_frames_the_first_is_taken_only_if_asked(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(RAMP), Image.fromarray(RAMP[:, ::-1]), Image.fromarray(RAMP[::-1])]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
    with pytest.raises(ImageFileError, match=rf"{name} has 3 frames or pages.*--first-frame"):
        read_image(tmp_path / name)
    _close(read_image(tmp_path / name, DecodeOptions(first_frame=True)), 30 if "gif" in name else 0)


def test_a_photo_with_a_preview_beside_it_is_one_photo(tmp_path: Path) -> None:
    small = Image.fromarray(RAMP[::2, ::2])
    Image.fromarray(RAMP).save(
        tmp_path / "p.jpg", "MPO", save_all=True, append_images=[small], quality=95
    )
    _close(read_image(tmp_path / "p.jpg"), 3)


def test_bits_and_greys(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "g.png")
    np.testing.assert_array_equal(read_image(tmp_path / "g.png")[..., 0], GREY)
    Image.fromarray(GREY > 100).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png")[..., 0], 255 * (GREY > 100))


def _png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "PNG")
    return file.getvalue()


def _jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "JPEG")
    return file.getvalue()


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 255]) + data[place + 1 :]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        _png()[: len(_png()) // 2],
        _jpeg()[: len(_jpeg()) // 2],
        _flipped(_png(), 30),
        _flipped(_png(), 60),
        b"\xff\xd8\xff\xe0" + b"\0" * 50,
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"GIF89a" + b"\xff" * 40,
        b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60,
        b"RIFF\xff\xff\0\0WEBPVP8 " + b"\xff" * 40,
    ],
)
def test_what_is_damaged_is_a_typed_error_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    with pytest.raises(ImageFileError, match=r"odd\.png is no readable image: .") as caught:
        read_image(path)
    assert caught.value.file == str(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match=r"gone\.png is no readable image.*No such file"):
        read_image(tmp_path / "gone.png")


def test_size_is_limited_before_anything_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "scan.png")
    Image.new("1", (12_000, 10_001)).save(tmp_path / "large.png")
    for name in ("scan.png", "large.png"):
        with pytest.raises(ImageFileError, match=rf"{name} has .* limit is 120,000,000") as caught:
            read_image(tmp_path / name)
        assert caught.value.limit == "120,000,000 pixels"
    small = DecodeOptions(max_pixels=100)
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match="has 48 x 32 pixels; the limit is 100 pixels"):
        read_image(tmp_path / "a.png", small)
    Image.new("1", (11_000, 9_000)).save(tmp_path / "photo.png")  # Pillow would warn.
    assert read_image(tmp_path / "photo.png").shape == (9_000, 11_000, 1)


def test_a_stream_is_named_by_the_caller() -> None:
    with pytest.raises(ImageFileError, match=r"^album, page 3 is no readable image"):
        read_image(io.BytesIO(b"x"), name="album, page 3")


def test_pixels_to_look_at_and_to_compare() -> None:
    grey = np.array([[[0.0], [1.0]]], np.float32)
    assert as_rgb8(grey).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    assert pixels_digest(grey) != pixels_digest(grey.reshape(2, 1, 1))
    assert pixels_digest(grey) != pixels_digest((255 * grey).astype(np.uint8))
    assert pixels_digest(grey) == pixels_digest(grey.copy())
