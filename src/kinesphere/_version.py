"""The version, by itself: everything may ask for it, and nothing else hangs on it."""

__version__ = "0.1.0"
