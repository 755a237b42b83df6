from .job import make_volumes as make_volumes
from .job import read_summary as read_summary
from .maker import Volume as Volume
from .maker import VolumeMaker as VolumeMaker
from .options import VolumeMethod as VolumeMethod
from .options import VolumeSettings as VolumeSettings
from .targets import choose_targets as choose_targets
from .targets import in_second_space as in_second_space
