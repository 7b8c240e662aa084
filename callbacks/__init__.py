"""What is measured and written while a module trains; callbacks know nothing of one another."""

from callbacks.clip_score import CLIPScore
from callbacks.sample_images import SampleImages
from callbacks.save_adapter import SaveAdapter
from callbacks.write_result import WriteResult

__all__ = ["CLIPScore", "SampleImages", "SaveAdapter", "WriteResult"]
