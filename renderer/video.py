"""Pictures and clips on disk: PNG and H.264, written frame by frame, there whole or not at all."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray
from PIL import Image

from renderer.files import atomic

ENCODER_THREADS = 2  # a constant, never the core count: x264 splits its work by it, so it shows in the bytes
SAME_BITS = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # on every processor
BT709 = 1  # the code for primaries, transfer and matrix alike; without it players guess, and guess differently


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Writes uint8 [H, W, 3] as RGB, atomically; no date or other metadata, so equal pixels make equal bytes."""
    assert (image.dtype, image.ndim, image.shape[-1]) == (np.uint8, 3, 3), (image.dtype, image.shape)
    with atomic(path) as part:
        Image.fromarray(image).save(part, format="PNG", compress_level=4)


def read_png(path: Path) -> NDArray[np.uint8]:
    """The pixels as RGB, uint8 [H, W, 3]. Raises OSError if the file is missing or is no picture."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def write_mp4(path: Path, frames: Iterable[NDArray[np.uint8]], fps: float) -> None:
    """Encodes uint8 [H, W, 3] pictures of one size to an H.264 MP4 that plays everywhere, atomically.

    8-bit 4:2:0 (`yuv420p`), BT.709, even sizes (an odd last row or column is doubled), index at the front of the file.
    Takes the frames one at a time, so memory does not grow with the clip. Equal frames make equal bytes.
    """
    frames = iter(frames)
    first = next(frames, None)
    assert first is not None, "a clip has at least one frame"
    height, width, _ = first.shape
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    rate = Fraction(fps).limit_denominator(1001)

    muxer = {"movflags": "+faststart", "fflags": "+bitexact"}
    with atomic(path) as part, av.open(str(part), "w", format="mp4", options=muxer) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "medium"})
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        codec = stream.codec_context
        codec.thread_count = ENCODER_THREADS
        codec.gop_size = max(1, round(2 * rate))  # a keyframe every two seconds, for scrubbing
        codec.colorspace, codec.color_primaries, codec.color_trc = BT709, BT709, BT709
        codec.color_range = ColorRange.MPEG
        for image in chain([first], frames):
            assert (image.dtype, image.shape) == (np.uint8, first.shape), (image.dtype, image.shape, first.shape)
            picture = av.VideoFrame.from_ndarray(np.pad(image, padding, mode="edge"), format="rgb24")
            picture = picture.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=SAME_BITS,
                threads=1,  # by default as many as cores
            )
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
