"What guards `seglab.io`: every mode and orientation, broken files, exact round trips, large pictures."

import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from seglab import io
from seglab.core import DatasetError

GREY = np.linspace(0, 255, 12 * 17).round().astype(np.uint8).reshape(12, 17)
COLOUR = np.random.default_rng(0).integers(0, 256, (12, 17, 3), dtype=np.uint8)
READERS = [
    io.read_image,
    io.read_pixels,
    io.read_mask,
    io.read_alpha,
    io.read_trimap,
    io.read_labels,
]


def pixels(tensor):
    return tensor.movedim(0, -1).numpy()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_agrees_with_opencv(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = np.kron(COLOUR[:4, :6], np.ones((8, 8, 1), np.uint8))
    Image.fromarray(blocks).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    ours = pixels(io.read_image(tmp_path / "a.jpg")) * 255
    theirs = cv2.imread(str(tmp_path / "a.jpg"))[:, :, ::-1]  # OpenCV applies the orientation
    assert ours.shape == ((32, 48, 3) if orientation < 5 else (48, 32, 3))
    assert np.abs(ours - theirs.astype(float)).max() <= 3


COLOUR_FILES = dict(
    tif=["RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB"],
    png=["RGB", "RGBA"],
    jpg=["RGB", "RGBX", "CMYK", "YCbCr"],
)


@pytest.mark.parametrize(("suffix", "mode"), [(s, m) for s, ms in COLOUR_FILES.items() for m in ms])
def test_colour_modes(tmp_path, suffix, mode):
    picture = Image.fromarray(np.kron(COLOUR, np.ones((8, 8, 1), np.uint8))).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    image = io.read_image(tmp_path / f"a.{suffix}")
    wanted = np.asarray(Image.open(tmp_path / f"a.{suffix}").convert("RGB")) / 255
    assert image.shape == (3, 96, 136) and image.dtype == torch.float32 and image.is_contiguous()
    assert np.allclose(pixels(image), wanted, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "I", "I;16", "F"])
def test_grey_modes_as_images(tmp_path, mode):
    if mode in ("I", "I;16"):
        picture = Image.fromarray(GREY.astype(np.uint16 if mode == "I;16" else np.int32) * 257)
    elif mode == "F":
        picture = Image.fromarray(GREY.astype(np.float32) / 255)
    else:
        picture = Image.fromarray(GREY).convert(mode, dither=Image.Dither.NONE)
    assert picture.mode == mode
    picture.save(tmp_path / "a.tif")
    image, alpha = io.read_image(tmp_path / "a.tif"), io.read_alpha(tmp_path / "a.tif")
    wanted = (GREY > 127).astype(float) if mode == "1" else GREY / 255
    assert np.allclose(image.numpy(), wanted, atol=1e-6)
    assert np.allclose(alpha[0].numpy(), wanted, atol=1e-6)


def test_sixteen_bits_of_colour(tmp_path):
    wide = COLOUR.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "a.png"), wide[:, :, ::-1])
    assert np.allclose(pixels(io.read_image(tmp_path / "a.png")), COLOUR / 255, atol=1 / 255)


def test_sixteen_bit_alpha_keeps_its_steps(tmp_path):
    wide = np.array([[0, 1, 32768, 65534, 65535]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), wide)
    assert np.allclose(io.read_alpha(tmp_path / "a.png")[0].numpy(), wide / 65535, atol=1e-7)
    assert io.read_mask(tmp_path / "a.png").tolist() == [[[False, False, True, True, True]]]
    assert io.read_trimap(tmp_path / "a.png").tolist() == [[[0, 0, 1, 2, 2]]]


def test_transparent_palette_is_a_cut_out(tmp_path):
    picture = Image.fromarray((GREY > 99).astype(np.uint8))
    picture.putpalette([255, 0, 0, 0, 255, 0])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 255]))
    assert np.array_equal(io.read_alpha(tmp_path / "a.png")[0].numpy(), (GREY > 99) * 1.0)
    assert np.array_equal(io.read_mask(tmp_path / "a.png")[0].numpy(), GREY > 99)


def test_constant_opacity_says_nothing(tmp_path):
    for opacity in (0, 128, 255):
        band = Image.new("L", (17, 12), opacity)
        Image.merge("LA", [Image.fromarray(GREY), band]).save(tmp_path / "a.png")
        assert np.allclose(io.read_alpha(tmp_path / "a.png")[0].numpy(), GREY / 255, atol=1e-6)


def test_masks_saved_as_jpeg(tmp_path):
    mask = cv2.circle(np.zeros((80, 90), np.uint8), (40, 40), 25, 255, -1)
    for quality in (30, 60, 95):
        Image.fromarray(mask).save(tmp_path / "grey.jpg", quality=quality)
        Image.fromarray(mask).convert("RGB").save(tmp_path / "rgb.jpg", quality=quality)
        for name in ("grey.jpg", "rgb.jpg"):
            wrong = io.read_mask(tmp_path / name)[0].numpy() != (mask > 0)
            assert wrong.mean() < 0.002


def test_empty_and_full_masks(tmp_path):
    for value, suffix in ((0, ".png"), (255, ".png"), (0, ".jpg"), (255, ".jpg")):
        Image.new("L", (17, 12), value).save(tmp_path / f"a{suffix}")
        mask = io.read_mask(tmp_path / f"a{suffix}")
        assert mask.dtype == torch.bool and mask.shape == (1, 12, 17)
        assert mask.all() if value else not mask.any()


def test_void_of_a_palette_is_no_object(tmp_path):
    picture = Image.fromarray(np.array([[0, 1, 15, 255]], np.uint8))
    picture.putpalette([0, 0, 0] + [128, 0, 0] * 254 + [224, 224, 192])
    picture.save(tmp_path / "a.png")
    assert io.read_mask(tmp_path / "a.png").tolist() == [[[False, True, True, False]]]
    assert io.read_labels(tmp_path / "a.png").tolist() == [[0, 1, 15, 255]]


@pytest.mark.parametrize("reader", READERS)
def test_missing_and_broken_files_are_named(tmp_path, reader):
    def refuse(name, words, kind=io.ImageError):
        with pytest.raises(kind, match=words) as caught:
            reader(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)

    Image.fromarray(np.kron(COLOUR, np.ones((9, 9, 1), np.uint8))).save(tmp_path / "a.png")
    Image.fromarray(np.kron(COLOUR, np.ones((9, 9, 1), np.uint8))).save(tmp_path / "b.jpg")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "head.png").write_bytes(whole[:20])
    (tmp_path / "flip.png").write_bytes(whole[:200] + b"\0\0\0\0" + whole[204:])
    whole = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")

    refuse("a.pnk", "did you mean a.png", FileNotFoundError)
    refuse("a.pnk", "no such file")
    refuse("nowhere/a.png", "no such file")
    refuse("", "is a folder")
    for name in ("cut.png", "cut.jpg", "flip.png"):
        refuse(name, "108 × 153 pixels")
    for name in ("head.png", "text.png", "empty.png"):
        refuse(name, "bytes begin with")


def test_a_header_that_promises_too_much(tmp_path):
    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(io.ImageError, match="bomb.png"):
        io.read_image(tmp_path / "bomb.png")


def test_photographs_are_no_masks(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "photo.png")
    for reader in (io.read_mask, io.read_alpha, io.read_trimap, io.read_labels):
        with pytest.raises(io.ImageError, match="photo.png.*(in colour|has colours)"):
            reader(tmp_path / "photo.png")


def test_floats_out_of_range_are_refused(tmp_path):
    for bad in (-0.5, 2.0, np.nan):
        Image.fromarray(np.full((3, 4), bad, np.float32)).save(tmp_path / "a.tif")
        with pytest.raises(io.ImageError, match="its values run from"):
            io.read_alpha(tmp_path / "a.tif")


def test_labels_come_back_from_every_container(tmp_path):
    labels = torch.arange(200).reshape(10, 20)
    narrow = labels.numpy().astype(np.uint8)
    for mode in ("L", "RGB", "LA", "RGBA"):
        Image.fromarray(narrow).convert(mode).save(tmp_path / "a.png")
        assert torch.equal(io.read_labels(tmp_path / "a.png"), labels), mode
    io.write_labels(tmp_path / "b.png", labels * 300)
    assert torch.equal(io.read_labels(tmp_path / "b.png"), labels * 300)


def test_round_trips(tmp_path):
    image = torch.from_numpy(COLOUR).permute(2, 0, 1) / 255
    alpha = torch.from_numpy(GREY)[None] / 255
    trimap = torch.from_numpy(GREY % 3)[None]
    for suffix in (".png", ".tif", ".bmp"):
        io.write_image(tmp_path / f"i{suffix}", image)
        assert torch.equal(io.read_image(tmp_path / f"i{suffix}"), image)
    for suffix in (".png", ".tif", ".TIFF"):
        io.write_alpha(tmp_path / f"a{suffix}", alpha)
        assert torch.equal(io.read_alpha(tmp_path / f"a{suffix}"), alpha)
        io.write_trimap(tmp_path / f"t{suffix}", trimap)
        assert torch.equal(io.read_trimap(tmp_path / f"t{suffix}"), trimap)
        io.write_mask(tmp_path / f"m{suffix}", alpha > 0.5)
        assert torch.equal(io.read_mask(tmp_path / f"m{suffix}"), alpha > 0.5)
    soft = torch.rand(1, 9, 9, generator=torch.Generator().manual_seed(0))
    io.write_alpha(tmp_path / "soft.png", soft, bits=16)
    assert torch.allclose(io.read_alpha(tmp_path / "soft.png"), soft, atol=0.51 / 65535)
    io.write_alpha(tmp_path / "soft.png", soft.half().requires_grad_())
    assert torch.allclose(io.read_alpha(tmp_path / "soft.png"), soft, atol=0.51 / 255 + 1e-3)


def test_writers_refuse_and_leave_nothing(tmp_path):
    square = torch.zeros(1, 4, 4)
    codes = square.to(torch.uint8)
    bad = [
        (io.write_alpha, square + float("nan"), "NaN"),
        (io.write_alpha, square - 0.1, "must lie in"),
        (io.write_alpha, square + 1.1, "must lie in"),
        (io.write_alpha, codes, "must be float"),
        (io.write_alpha, square[None], "axes"),
        (io.write_image, square, "axis 3"),
        (io.write_image, torch.full((3, 4, 4), float("inf")), "infinite"),
        (io.write_mask, square, "must be bool"),
        (io.write_trimap, codes + 3, "codes 0, 1, 2"),
        (io.write_trimap, codes + 255, "codes 0, 1, 2"),
        (io.write_trimap, square, "uint8"),
        (io.write_labels, square[0], "integers"),
        (io.write_labels, square[0].long() - 1, "integers"),
    ]
    for writer, tensor, words in bad:
        with pytest.raises(ValueError, match=words):
            writer(tmp_path / "bad.png", tensor)
    for writer, tensor in ((io.write_alpha, square), (io.write_trimap, codes)):
        with pytest.raises(io.ImageError, match="would not keep it"):
            writer(tmp_path / "bad.jpg", tensor)
    assert not list(tmp_path.iterdir())


def test_resize_ringing_is_clamped(tmp_path):
    io.write_alpha(tmp_path / "a.png", torch.tensor([[[-5e-4, 1 + 5e-4]]]))
    assert io.read_alpha(tmp_path / "a.png").tolist() == [[[0, 1]]]


def test_listings(tmp_path):
    with pytest.raises(DatasetError, match="no such folder"):
        io.list_images(tmp_path / "images")
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="holds no picture"):
        io.list_images(tmp_path / "images")
    for name in ("b.JPG", "a.png", "c.x.tif", ".hidden.png", "readme.txt"):
        (tmp_path / "images" / name).touch()
    assert list(io.list_images(tmp_path / "images")) == ["a", "b", "c.x"]
    (tmp_path / "images" / "a.jpg").touch()
    with pytest.raises(DatasetError, match="a.jpg and a.png share a stem"):
        io.list_images(tmp_path / "images")


def test_pairing_lists_the_first_five(tmp_path):
    for number in range(9):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "images" / f"{number}.jpg").touch()
    (tmp_path / "masks" / "8.png").touch()
    (tmp_path / "masks" / "x.png").touch()
    with pytest.raises(DatasetError) as caught:
        io.pair_by_stem(tmp_path / "images", tmp_path / "masks")
    assert "8 truths are missing ['0', '1', '2', '3', '4']" in str(caught.value)
    assert "1 have no image" in str(caught.value) and "['x']" in str(caught.value)


def test_twenty_four_megapixels(tmp_path):
    big = np.zeros((4000, 6000, 3), np.uint8)
    big[:, ::2] = 255
    Image.fromarray(big).save(tmp_path / "a.bmp")
    image = io.read_image(tmp_path / "a.bmp")
    assert image.shape == (3, 4000, 6000) and image[:, 7, :4].tolist() == [[1, 0, 1, 0]] * 3


def test_real_mattes_read(parity):
    folder = parity.parent / "data" / "mattes"
    if not folder.is_dir():
        pytest.skip("the real photographs are not at hand")
    for name, image_file, alpha_file in io.pair_by_stem(folder / "images", folder / "alphas")[:2]:
        image, alpha = io.read_image(image_file), io.read_alpha(alpha_file)
        trimap = io.read_trimap(folder / "trimaps" / f"{name}.png")
        io.check_same_size(image=image, alpha=alpha, trimap=trimap)
        assert (alpha[trimap == 2] > 0.9).float().mean() > 0.99
        assert (alpha[trimap == 0] < 0.1).float().mean() > 0.99


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_bytes_are_those_of_the_floats(tmp_path, suffix):
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (9, 12, 3), np.uint8)).save(tmp_path / f"c.{suffix}")
    Image.fromarray(generator.integers(0, 65536, (9, 12), np.uint16)).save(tmp_path / "wide.png")
    for file in (f"c.{suffix}", "wide.png"):
        rows = io.read_pixels(tmp_path / file)
        wanted = (io.read_image(tmp_path / file) * 255).round().byte().permute(1, 2, 0).numpy()
        assert rows.dtype == np.uint8 and (rows == wanted).all()
        rows[0] = 0  # its own
