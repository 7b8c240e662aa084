"""The diffusion process: noise, loss and sampling. All random numbers come from explicit generators."""
