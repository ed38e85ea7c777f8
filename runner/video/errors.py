"""What a video file can have wrong with it."""

from __future__ import annotations


class BrokenVideo(Exception):
    """A file that is not a whole, decodable video. The message is one line, without the path."""

    says = "cannot be decoded"


class UnfitVideo(BrokenVideo):
    """A whole video that is not shown as it lies there, and that would be read wrongly. The message
    is one line that ends with what to do, the file's path in it."""

    says = "cannot be used"
