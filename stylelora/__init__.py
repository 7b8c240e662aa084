"""Style LoRAs for Stable Diffusion: plain PyTorch, no Lightning; sub-packages in reading order."""

__version__ = "0.1.0"
