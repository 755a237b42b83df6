"""From particles whose motion is known to maps: deformed backprojection, least squares, and how far
to trust them.
"""
