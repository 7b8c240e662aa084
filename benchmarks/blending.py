"""What blending costs: `python -m benchmarks.blending`.

Merging two adapters of the shape of Stable Diffusion 1.5's 128 attention projections at rank 16, and sampling with the
embedded base: alone, merged, and by the methods that blend while sampling. Random adapters; speed does not see that.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from stylelora.base.conditioning import Conditioning
from stylelora.base.load import load_scheduler, load_unet, read_config, resolve_base
from stylelora.diffusion.blend_while_sampling import SAMPLING_METHODS
from stylelora.diffusion.conditions import Blends, Condition, sample_condition
from stylelora.diffusion.sample import initial_noise
from stylelora.lora.blend import added, as_layers, blend
from stylelora.lora.compose import FULL_RANK, METHODS
from stylelora.lora.factors import Factors, truncated
from stylelora.lora.inject import adaptable_modules
from stylelora.lora.read import Adapter

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
SD15 = {"sample_size": 64, "cross_attention_dim": 768, "block_out_channels": (320, 640, 1280, 1280)}


def random_adapter(name: str, unet: torch.nn.Module, rank: int) -> Adapter:
    """Return an adapter of a UNet's attention projections."""
    layers, inputs = {}, {}
    for layer, module in adaptable_modules(unet).items():
        if layer.endswith(ATTENTION) and "attentions" in layer:
            m, n = module.weight.shape
            layers[layer] = Factors(torch.randn(m, rank) / n, torch.randn(rank, n))
            inputs[layer] = (n,)
    return Adapter(name, layers, inputs, "", {})


def seconds(work: Callable[[], object], times: int) -> float:
    """Return the median time of a call in seconds, after one warm-up call."""
    work()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def main() -> None:
    """Run the benchmark and print its results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=4)
    args = parser.parse_args()
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    with torch.device("meta"):
        large = UNet2DConditionModel(**SD15)
    pair = [random_adapter(name, large, 16) for name in ("first", "second")]
    print(f"{len(pair[0].layers)} layers\n| merge | s |\n|---|---|")
    for method in METHODS:
        once = 1 if method in FULL_RANK else args.times
        taken = seconds(lambda method=method: as_layers(blend(pair, (0.6, 0.4), method), pair), once)
        print(f"| {method} | {taken:.2f} |", flush=True)
    cut = seconds(lambda: [truncated(update, 16) for update in blend(pair, (0.6, 0.4)).values()], args.times)
    print(f"| sum, to rank 16 | {cut:.2f} |\n\n| {args.pictures} pictures by | s | of the base's |\n|---|---|---|")

    folder = resolve_base("mini")
    unet, scheduler = load_unet(folder), load_scheduler(folder)
    pair = [random_adapter(name, unet, 16) for name in ("first", "second")]
    side, width = read_config(folder, "unet")["sample_size"], unet.config.cross_attention_dim
    start = initial_noise(range(args.pictures), (unet.config.in_channels, side, side))

    blends = Blends(pair)

    def embed(texts: list[str], _updates: dict) -> Conditioning:
        return Conditioning(torch.zeros(len(texts), 77, width))

    def sample(method: str, weights: tuple[float, float]) -> Callable[[], object]:
        condition = Condition(method, weights, 12, 4.0)
        words = ["a cat"] * args.pictures
        return lambda: sample_condition(unet, scheduler, blends, condition, start, words, embed)

    def merged() -> object:  # the UNet is merged once, before timing, for any number of pictures
        return sample("sum", (0.0, 0.0))()

    works = {"the base": sample("sum", (0.0, 0.0)), "the merged blend": merged}
    works |= {method: sample(method, (0.6, 0.4)) for method in SAMPLING_METHODS}
    updates = blend(pair, (0.6, 0.4))
    for work in works.values():
        work()
    taken = {name: [] for name in works}
    for _ in range(args.times):  # interleaved, so that a slowdown of the machine affects all alike
        for name, work in works.items():
            with added(unet, updates if work is merged else {}):
                started = time.perf_counter()
                work()
                taken[name].append(time.perf_counter() - started)
    for name, all_of in taken.items():
        ratio = statistics.median(a / b for a, b in zip(all_of, taken["the base"], strict=True))
        print(f"| {name} | {statistics.median(all_of):.3f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
