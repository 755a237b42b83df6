"""What the recovered motion is: latent components, ensembles, rigid bodies and trajectories of a
finished run.

The public names are listed in `__init__.pyi`; each is imported from its module on first use.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
