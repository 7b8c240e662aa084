"""Give trained networks more latent channels without losing what they know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel


def _place(weight: Tensor, into: Tensor, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    """Copy a weight to the given rows and columns of a larger one; left out: the leading ones."""
    rows = torch.arange(len(weight)) if rows is None else rows
    if weight.ndim == 1:
        into[rows] = weight
    else:
        into[rows[:, None], torch.arange(weight.shape[1]) if columns is None else columns] = weight


@torch.no_grad()
def widen_unet(unet: UNet2DConditionModel, extra: int) -> UNet2DConditionModel:
    """Return a UNet with `extra` more latent channels behind the old ones; it ignores them, and predicts 0 for them.

    Args:
        unet: left as it is; what it predicts for its channels is kept.
        extra: channels to add.
    """
    channels = unet.config.in_channels + extra
    wide = type(unet).from_config(unet.config, in_channels=channels, out_channels=channels)
    for weight in (wide.conv_in.weight, wide.conv_out.weight, wide.conv_out.bias):
        weight.zero_()
    places = wide.state_dict()
    for name, weight in unet.state_dict().items():
        _place(weight, places[name])
    return wide


@torch.no_grad()
def widen_autoencoder(vae: AutoencoderKL, extra: int) -> AutoencoderKL:
    """Return an autoencoder with `extra` more latent channels behind the old ones, which the decoder ignores at first.

    Args:
        vae: left as it is; the posterior of its channels and what it decodes are kept.
        extra: channels to add.
    """
    old = vae.config.latent_channels
    new = old + extra
    wide = type(vae).from_config(vae.config, latent_channels=new)
    wide.decoder.conv_in.weight.zero_()
    for conv in (wide.quant_conv, wide.post_quant_conv):
        conv.weight.copy_(torch.eye(conv.in_channels)[:, :, None, None])
        conv.bias.zero_()
    moments = torch.cat([torch.arange(old), new + torch.arange(old)])  # all means, then all log-variances
    places = wide.state_dict()
    for name, weight in vae.state_dict().items():
        rows = moments if name.startswith(("encoder.conv_out", "quant_conv")) else None
        _place(weight, places[name], rows, moments if name == "quant_conv.weight" else None)
    return wide
