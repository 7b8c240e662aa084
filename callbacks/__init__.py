"""Callbacks: what is measured and written while a module runs; none knows of another."""

from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.clip_score import CLIPScore
from callbacks.end_training import EndTraining
from callbacks.evaluate import Evaluate
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.learning_rate import LearningRate
from callbacks.own_files import OwnFiles as OwnFiles
from callbacks.own_files import SaveConfig as SaveConfig
from callbacks.record_settings import RecordSettings as RecordSettings
from callbacks.sample_images import SampleImages
from callbacks.save_adapter import SaveAdapter
from callbacks.stop_on_signal import StopOnSignal
from callbacks.write_pictures import WritePictures
from callbacks.write_result import WriteResult

#: Section of a config -> the callback it sets.
GROUPS = {
    "checkpoint": ModelCheckpoint,
    "last_checkpoint": LastCheckpoint,
    "end_training": EndTraining,
    "learning_rate": LearningRate,
    "sample_images": SampleImages,
    "clip_score": CLIPScore,
    "save_adapter": SaveAdapter,
    "stop_on_signal": StopOnSignal,
    "write_result": WriteResult,
    "write_pictures": WritePictures,
    "evaluate": Evaluate,
}
