"""Training loops that do what public scripts do, and what lies between them and ours, one switch at a time.

With the options' defaults a loop does what diffusers' `train_text_to_image_lora.py` does in each step: it reads,
resizes and normalises pictures in the training process, encodes them and their captions, draws noise and timesteps on
the device, predicts with PEFT's layers, asks for the loss before the backward pass and again after the step, clips, and
steps with AdamW. `KOHYA` does what kohya's `train_network.py` does with cached latents and SDPA. Both were written for
this benchmark, from what the scripts do. Left out, in favour of the scripts: progress bars, TensorBoard, schedules.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from benchmarks.speed.bases import ATTENTION, Parts
from benchmarks.speed.clocks import Settings, wait
from benchmarks.speed.pictures import Captioned, Encoded
from stylelora.diffusion import noise as keyed

Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Options:
    """How a loop does its steps; the defaults are those of diffusers' script.

    Attributes:
        adapter: PEFT's layers, or those of kohya's scripts.
        cached_latents: pictures were encoded before the training.
        cached_texts: captions, too.
        sdpa: attention by PyTorch's fused kernel, or by its definition.
        fused: AdamW in one kernel.
        asks: when the loss is asked for, for which the device is waited for.
        input_gradient: gradients go on below the first adapted layer, to the UNet's input.
        workers: processes that read ahead.
        keyed: noise is drawn as ours: on the CPU, by a generator per picture and purpose.
        channels_last: memory format of the UNet.
        tuned: cuDNN tries its algorithms (torch.backends.cudnn.benchmark).
        launch: how the work gets to the device: operation by operation, as one CUDA graph, or compiled block by block.
    """

    adapter: Literal["peft", "kohya"] = "peft"
    cached_latents: bool = False
    cached_texts: bool = False
    sdpa: bool = True
    fused: bool = False
    asks: tuple[Literal["forward", "step"], ...] = ("forward", "step")
    input_gradient: bool = False
    workers: int = 0
    keyed: bool = False
    channels_last: bool = False
    tuned: bool = False
    launch: Literal["eager", "graph", "compiled"] = "eager"


DIFFUSERS = Options()
KOHYA = Options(adapter="kohya", cached_latents=True, asks=("step",), input_gradient=True)


class Beside(nn.Module):
    """A LoRA beside a linear layer, whose `forward` it takes over, as kohya's module does."""

    def __init__(self, layer: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        self.multiplier, self.scale = 1.0, alpha / rank
        self.of_layer, layer.forward = layer.forward, self.forward

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output and the LoRA's."""
        return self.of_layer(x) + self.up(self.down(x)) * self.multiplier * self.scale


def add_adapter(unet: nn.Module, kind: str, rank: int) -> dict[str, tuple[nn.Parameter, nn.Parameter]]:
    """Add an adapter to the attention layers.

    Returns:
        A and B of each layer, float32, by the layer's full name.
    """
    names = [name for name, one in unet.named_modules() if isinstance(one, nn.Linear) and name.endswith(ATTENTION)]
    if kind == "kohya":
        beside = {name: Beside(unet.get_submodule(name), rank, rank) for name in names}
        return {name: (one.down.weight, one.up.weight) for name, one in beside.items()}
    from peft import LoraConfig

    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(ATTENTION)))
    layers = {name: unet.get_submodule(name) for name in names}
    return {name: (one.lora_A["default"].weight, one.lora_B["default"].weight) for name, one in layers.items()}


class Loop:
    """A training loop of a base, on the pictures of a folder.

    Attributes:
        layers: A and B of each adapted layer.
        phases: seconds of each phase since `measure_phases`; None: phases run into one another.
    """

    def __init__(self, parts: Parts, root: Path, settings: Settings, options: Options = DIFFUSERS) -> None:
        from diffusers import DDPMScheduler
        from diffusers.models.attention_processor import AttnProcessor

        self.settings, self.options = settings, options
        device, dtype = settings.device, settings.dtype
        self.scheduler = DDPMScheduler.from_config(parts.scheduler.config)
        self.scaling = parts.vae.config.scaling_factor
        self.vae = parts.take("vae").to(device, dtype)
        self.text_encoder = parts.take("text_encoder").to(device, dtype)
        captioned = Captioned(root, parts.tokenizer, settings.resolution)
        encode = self.encode if options.cached_latents else None
        self.data = Encoded(captioned, encode, self.embed if options.cached_texts else None)
        if options.cached_latents:
            del self.vae
        if options.cached_texts:
            del self.text_encoder
        self.unet = parts.take("unet").to(dtype).requires_grad_(False)
        self.layers = add_adapter(self.unet, options.adapter, settings.rank)
        self.unet.to(device)
        self.parameters = self._in_float32()
        if not options.sdpa:
            self.unet.set_attn_processor(AttnProcessor())
        if options.channels_last:
            self.unet.to(memory_format=torch.channels_last)
        if settings.checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.unet.train(options.adapter == "peft" or settings.checkpointing)  # kohya's scripts leave it in eval mode
        if options.launch == "compiled":
            self.unet.compile_repeated_blocks()
        rates = {"lr": 1e-4, "weight_decay": 1e-2, "fused": options.fused or None}
        self.optimizer = torch.optim.AdamW(self.parameters, **rates)
        self.under(settings)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.held: dict[str, Tensor] = {}
        self.phases: dict[str, float] | None = None
        self.losses: list[float] = []

    def _in_float32(self) -> list[nn.Parameter]:
        """Return the adapter's weights; all loops train them in float32."""
        weights = [one for pair in self.layers.values() for one in pair]
        for one in weights:
            one.data = one.data.float().to(self.settings.device)
        return [one.requires_grad_() for one in weights]

    def under(self, settings: Settings) -> None:
        """Go on with another batch size, or with TF32."""
        self.settings, workers = settings, self.options.workers
        sampler = RandomSampler(self.data, replacement=True, num_samples=10**6)
        pinned = settings.device == "cuda"
        ahead = {"num_workers": workers, "prefetch_factor": 1, "pin_memory": pinned} if workers else {}
        self.batches = iter(DataLoader(self.data, settings.batch, sampler=sampler, **ahead))

    @torch.no_grad()
    def encode(self, pixels: Tensor, draw: Draw = torch.randn_like) -> Tensor:
        """Return scaled latents of pictures, drawn from the autoencoder's posterior."""
        posterior = self.vae.encode(pixels.to(self.settings.device, self.settings.dtype)).latent_dist
        return (posterior.mean + posterior.std * draw(posterior.mean)) * self.scaling

    @torch.no_grad()
    def embed(self, tokens: Tensor) -> Tensor:
        """Return the text encoder's output for captions."""
        return self.text_encoder(tokens.to(self.settings.device), return_dict=False)[0]

    def loss(self, latents: Tensor, noise: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
        """Return the mean squared error of what the UNet predicts."""
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        target = noise
        if self.scheduler.config.prediction_type == "v_prediction":
            target = self.scheduler.get_velocity(latents, noise, timesteps)
        if self.options.channels_last:
            noisy = noisy.to(memory_format=torch.channels_last)
        noisy.requires_grad_(self.options.input_gradient)
        with self.settings.autocast():
            predicted = self.unet(noisy, timesteps, text, return_dict=False)[0]
        return F.mse_loss(predicted.float(), target.float())

    def given(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what `loss` takes, of a batch, with noise and timesteps drawn on the device."""
        device, dtype = self.settings.device, self.settings.dtype
        ahead = {"non_blocking": self.options.workers > 0}
        latents = batch["latents"].to(device, **ahead) if "latents" in batch else self.encode(batch["pixels"])
        text = batch["text"].to(device, **ahead) if "text" in batch else self.embed(batch["tokens"])
        latents, steps = latents.to(dtype), self.scheduler.config.num_train_timesteps
        given = {"latents": latents, "text": text.to(dtype)}
        if not self.options.keyed:
            timesteps = torch.randint(0, steps, (len(latents),), device=device)
            return given | {"noise": torch.randn_like(latents), "timesteps": timesteps}
        keys = [(len(self.losses), row) for row in range(len(latents))]
        drawn = [keyed.normal([(what, *key) for key in keys], latents.shape[1:]) for what in ("posterior", "noise")]
        timesteps = keyed.timesteps([("timestep", *key) for key in keys], steps)
        return given | {"noise": drawn[1].to(device, dtype), "timesteps": timesteps.to(device)}

    def step(self) -> None:
        """Train one step."""
        started = self._mark("", 0.0)
        batch = next(self.batches)
        started = self._mark("data", started)
        given = self.given(batch)
        started = self._mark("encoding", started)
        if self.options.launch == "graph":
            loss = self._replayed(given)
        else:
            loss = self.loss(**given)
            if "forward" in self.options.asks:
                self.losses.append(loss.item())
            started = self._mark("forward", started)
            loss.backward()
        started = self._mark("backward", started)
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        if self.options.launch != "graph":
            self.optimizer.zero_grad()
        started = self._mark("optimiser", started)
        if "step" in self.options.asks:
            self.losses.append(loss.item())
        self._mark("logging", started)

    def _replayed(self, given: dict[str, Tensor]) -> Tensor:
        """Run the forward and the backward pass as one CUDA graph, which the first call records."""
        if self.graph is None:
            self.held = {name: one.clone() for name, one in given.items()}
            aside = torch.cuda.Stream()
            aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(aside):
                for _ in range(2):
                    self.loss(**self.held).backward()
                    self.optimizer.zero_grad()
            torch.cuda.current_stream().wait_stream(aside)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # others read ahead
                self.held["loss"] = self.loss(**{name: self.held[name] for name in given})
                self.held["loss"].backward()
        for name, one in given.items():
            self.held[name].copy_(one)
        self.graph.replay()
        return self.held["loss"].detach()

    def _mark(self, phase: str, started: float) -> float:
        if self.phases is None:
            return 0.0
        wait(self.settings.device)
        now = time.perf_counter()
        if phase:
            self.phases[phase] += now - started
        return now

    def run(self, steps: int) -> float:
        """Train some steps and return the seconds of one."""
        torch.backends.cudnn.benchmark = self.options.tuned
        wait(self.settings.device)
        started = time.perf_counter()
        with torch.enable_grad(), self.settings.arithmetic():
            for _ in range(steps):
                self.step()
        wait(self.settings.device)
        torch.backends.cudnn.benchmark = False
        return (time.perf_counter() - started) / steps

    def measure_phases(self, steps: int) -> dict[str, float]:
        """Return the seconds of each phase of a step, with the device waited for after each."""
        self.phases = defaultdict(float)
        self.run(steps)
        found, self.phases = self.phases, None
        return {phase: taken / steps for phase, taken in found.items()}
