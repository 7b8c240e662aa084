"""The diffusion process itself: noise, loss, sampling. Every draw comes from an explicit generator."""
