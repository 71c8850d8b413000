import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from renderer.video import read_png, write_mp4, write_png


def clip(frames, height=48, width=64):
    """A colour gradient that drifts."""
    y, x = np.mgrid[:height, :width]
    for t in range(frames):
        yield np.stack([x * 255 / width, y * 255 / height, np.full_like(x, 40 + t * 2 % 160)], -1).astype(np.uint8)


def decode(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_png_keeps_pixels_and_equal_pixels_make_equal_files(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 3), dtype=np.uint8)
    write_png(tmp_path / "frames" / "a.png", image)
    write_png(tmp_path / "frames" / "b.png", image[::-1][::-1])
    assert np.array_equal(read_png(tmp_path / "frames" / "a.png"), image)
    assert (tmp_path / "frames" / "a.png").read_bytes() == (tmp_path / "frames" / "b.png").read_bytes()
    assert len(list((tmp_path / "frames").iterdir())) == 2


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1), (301, 71)])
def test_mp4_shows_the_frames(tmp_path, size):
    frames = list(clip(9, *size))
    write_mp4(tmp_path / "a.mp4", frames, fps=12)
    decoded = np.stack(decode(tmp_path / "a.mp4"))
    height, width = size
    assert decoded.shape == (9, height + height % 2, width + width % 2, 3)
    error = np.abs(decoded[:, :height, :width].astype(float) - np.stack(frames))
    assert error.mean() < 3


def test_mp4_plays_everywhere(tmp_path):
    write_mp4(tmp_path / "a.mp4", clip(5), fps=12)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        assert (codec.name, codec.pix_fmt, codec.profile) == ("h264", "yuv420p", "High")
        assert (codec.colorspace, codec.color_primaries, codec.color_trc, codec.color_range) == (1, 1, 1, 1)
        assert len(container.streams) == 1


@pytest.mark.parametrize("fps", [0.5, 12.0, 23.976, 30000 / 1001, 60])
def test_mp4_lasts_as_long_as_the_clip(tmp_path, fps):
    write_mp4(tmp_path / "a.mp4", clip(6), fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.frames == 6
        assert float(stream.duration * stream.time_base) == pytest.approx(6 / fps, rel=1e-3)
        assert stream.average_rate == Fraction(fps).limit_denominator(1001)


def test_mp4_is_the_same_file_every_time(tmp_path):
    for name in "ab":
        write_mp4(tmp_path / f"{name}.mp4", clip(30), fps=12)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_a_failing_clip_leaves_the_old_video(tmp_path):
    def broken():
        yield from clip(3)
        raise KeyboardInterrupt

    (tmp_path / "a.mp4").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_mp4(tmp_path / "a.mp4", broken(), fps=12)
    assert (tmp_path / "a.mp4").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_frames_are_taken_one_at_a_time(tmp_path):
    tracemalloc.start()
    write_mp4(tmp_path / "a.mp4", clip(200, 128, 128), fps=12)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 * 128 * 128 * 3  # of 200
