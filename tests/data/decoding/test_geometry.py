"""From the pixels of a source to those of the backbone's picture and back, for all three fits."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.decoding.decode import iter_frames
from pipeline.data.decoding.geometry import Fit, centre_crop

GREY = (124, 116, 104)
sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
cells = st.tuples(st.integers(1, 12), st.integers(1, 12))


@st.composite
def fits(draw, kinds=("crop", "stretch", "letterbox")) -> Fit:
    kind, (rows, columns) = draw(st.sampled_from(kinds)), draw(cells)
    if kind == "crop":
        return centre_crop(32 * rows, 32 * rows + draw(st.integers(0, 64)))
    return Fit(kind, 32 * rows, 32 * columns)


class TestGeometry:
    @given(fits(), sizes, st.floats(0, 1), st.floats(0, 1))
    def test_a_point_comes_back(self, fit, size, across, down):
        geometry = fit.geometry(*size)
        point = (across * size[0], down * size[1])
        assert geometry.from_picture(*geometry.to_picture(*point)) == pytest.approx(point, abs=1e-6 * max(size))

    @given(fits(("crop",)), sizes)
    def test_a_crop_lies_within_the_source(self, fit, size):
        geometry = fit.geometry(*size)
        x0, y0 = geometry.from_picture(0, 0)
        x1, y1 = geometry.from_picture(fit.width, fit.height)
        assert min(x0, y0) >= 0
        assert x1 <= size[0] + 1e-6 * size[0]
        assert y1 <= size[1] + 1e-6 * size[1]

    @given(fits(("stretch",)), sizes)
    def test_a_stretch_is_the_whole_source(self, fit, size):
        corners = fit.geometry(*size).box_to_picture(0, 0, *size)
        assert corners == pytest.approx((0, 0, fit.width, fit.height))

    @given(fits(("letterbox",)), sizes)
    def test_a_letterbox_holds_the_whole_source_in_the_middle_with_its_aspect(self, fit, size):
        geometry = fit.geometry(*size)
        x0, y0, x1, y1 = geometry.box_to_picture(0, 0, *size)
        assert min(x0, y0) >= 0
        assert (x0 + x1, y0 + y1) == pytest.approx((fit.width, fit.height))
        assert max((x1 - x0) / fit.width, (y1 - y0) / fit.height) == pytest.approx(1)
        factor = min(fit.width / size[0], fit.height / size[1])
        exact = np.array(size) * factor
        assert np.abs(np.array([x1 - x0, y1 - y0]) - exact).max() <= 2  # rounded to even lengths, of 2 at least

    @given(fits(), sizes, cells)
    def test_cells_are_empty_exactly_where_they_do_not_touch_the_source(self, fit, size, shape):
        rows, columns = shape
        empty = fit.empty_cells(*size, rows, columns)
        geometry = fit.geometry(*size)
        for row, column in np.ndindex(rows, columns):
            x0, y0 = geometry.from_picture(column * fit.width / columns, row * fit.height / rows)
            x1, y1 = geometry.from_picture((column + 1) * fit.width / columns, (row + 1) * fit.height / rows)
            width, height = min(x1, size[0]) - max(x0, 0), min(y1, size[1]) - max(y0, 0)
            seen = min(width * geometry.scale_x, height * geometry.scale_y)
            assert empty[row, column] == (seen < 1e-6)
        assert (empty == empty[::-1, ::-1]).all()  # so a mirrored picture has the same
        assert not empty.all()

    def test_by_hand(self):
        fit = Fit("letterbox", 224, 384)
        wide, tall = fit.geometry(1920, 1080), fit.geometry(360, 640)
        assert (wide.width, wide.height, wide.left, wide.top) == (384, 216, 0, -4)
        assert (tall.width, tall.height, tall.left, tall.top) == (126, 224, -129, 0)
        assert not fit.empty_cells(1920, 1080, 7, 12).any()
        assert fit.empty_cells(360, 640, 7, 12).sum(axis=1).tolist() == [8] * 7  # columns 0 to 3 and 8 to 11

    @pytest.mark.parametrize("size", [(0, 10), (10, 0)])
    def test_a_source_without_pixels_is_an_error(self, size):
        with pytest.raises(ValueError, match="expected a picture of at least 1 x 1 pixels"):
            Fit("stretch").geometry(*size)


def write_clip(path, pictures) -> None:
    """A video without loss, or with pictures of several sizes a folder of images."""
    path.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{number:03}.png")


def marked(width, height) -> np.ndarray:
    """A dark picture with a white spot in the upper left corner."""
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[: height // 4, : width // 4] = 255
    return picture


class TestPictures:
    @pytest.mark.parametrize("size", [(96, 64), (64, 96), (200, 30), (30, 100), (33, 33)])
    @pytest.mark.parametrize("fit", [Fit("stretch", 64, 128), Fit("letterbox", 64, 128, colour=GREY)])
    def test_the_picture_shows_what_the_geometry_says(self, tmp_path, fit, size):
        write_clip(tmp_path / "v", [marked(*size)])
        (frame,) = iter_frames(tmp_path / "v", fit)
        assert frame.image.shape == (64, 128, 3)
        geometry = fit.geometry(*size)
        assert tuple(frame.image[_inside(geometry, 0.1, 0.1, size)]) == pytest.approx((255,) * 3, abs=3)
        assert tuple(frame.image[_inside(geometry, 0.9, 0.9, size)]) == pytest.approx((40,) * 3, abs=3)
        x0, y0, x1, y1 = (round(edge) for edge in geometry.box_to_picture(0, 0, *size))
        outside = np.ones((64, 128), bool)
        outside[y0:y1, x0:x1] = False
        assert (frame.image[outside] == GREY).all()
        assert outside.any() == (fit.kind == "letterbox" and size != (128, 64))

    @pytest.mark.parametrize("size", [(1, 1), (5, 400), (400, 1)])
    @pytest.mark.parametrize("kind", ["stretch", "letterbox"])
    def test_the_smallest_sources_give_a_full_picture(self, tmp_path, kind, size):
        write_clip(tmp_path / "v", [np.full((size[1], size[0], 3), 200, np.uint8)])
        (frame,) = iter_frames(tmp_path / "v", Fit(kind, 64, 128))
        assert frame.image.shape == (64, 128, 3)
        assert frame.image.max() == pytest.approx(200, abs=3)

    def test_a_turned_video_is_fitted_upright(self, tmp_path):
        path = tmp_path / "v.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.set_display_rotation(90)
            frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 250, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        (first,) = iter_frames(path, Fit("letterbox", 64, 128, colour=GREY))
        columns = np.flatnonzero((first.image != GREY).any(axis=(0, 2)))
        assert (columns[0], columns[-1]) == (43, 84)  # 64 x 96 becomes 42 x 64

    def test_frames_of_another_shape_stay_within_the_place_of_the_first(self, tmp_path):
        """So the padding of the video is that of its header, whichever frames are wanted."""
        write_clip(tmp_path / "v", [marked(60, 120), marked(120, 60), marked(120, 240)])
        fit = Fit("letterbox", 64, 128, colour=GREY)
        every = [frame.image for frame in iter_frames(tmp_path / "v", fit)]
        *_, last = iter_frames(tmp_path / "v", fit, wanted={2})
        np.testing.assert_array_equal(last.image, every[2])
        place = fit.geometry(60, 120)
        left, right = -place.left, -place.left + place.width
        for image in every:
            assert (image[:, :left] == GREY).all()
            assert (image[:, right:] == GREY).all()
        assert (every[1][:20, left:right] == GREY).all()
        assert (every[2][:, left:right] != GREY).all()


def _inside(geometry, across, down, size) -> tuple[int, int]:
    x, y = geometry.to_picture(across * size[0], down * size[1])
    return int(y), int(x)
