from .options import ScheduleConfig as ScheduleConfig
from .options import TrainingConfig as TrainingConfig
from .options import default_batch_size as default_batch_size
from .options import default_epochs as default_epochs
from .schedule import Schedule as Schedule
from .trainer import Model as Model
from .trainer import Trainer as Trainer
