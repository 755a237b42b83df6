"""Prepared images: in memory, as float16, on disk or on the GPU, and the order in which they are
visited.
"""
