"""The frozen networks an adapter is trained on: Stable Diffusion from a hub, a folder, or the embedded "mini"."""
