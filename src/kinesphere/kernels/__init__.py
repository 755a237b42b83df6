"""Compiled inner loops beside their readable references, and the one place that chooses between
them.
"""
