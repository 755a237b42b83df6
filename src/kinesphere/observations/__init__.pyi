from .observations import Observations as Observations
from .observations import ParticleBatch as ParticleBatch
from .options import ImagesConfig as ImagesConfig
from .prepare import prepare_images as prepare_images
from .prepare import write_cache as write_cache
