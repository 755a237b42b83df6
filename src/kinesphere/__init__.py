"""kinesphere recovers how molecules move from single-particle cryo-EM images."""

__version__ = "0.1.0"
