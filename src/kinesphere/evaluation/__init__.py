"""Scores of a run against a known truth, and what the best possible observer would reach.

The public names are listed in `__init__.pyi`; each is imported from its module on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
