"""Which sampler, steps and guidance suit the embedded base on a CPU: `python -m benchmarks.mini.sampling`.

Every recipe draws the same prompts from the same noise: concepts alone and colours. "error" is the distance to 100
steps of DPM-Solver++ (root mean square over pixels, 0..255): what more steps would still change.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import diffusers
import torch

from benchmarks.mini.base import Base
from benchmarks.mini.judges import COLOURED, NearestMean, Scorer, colours_obeyed
from stylelora.base.concepts import load_concepts, with_article
from stylelora.pretraining.recolour import COLOURS
from stylelora.pretraining.scenes import Scene, describe

SAMPLERS = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DDIMScheduler", "EulerDiscreteScheduler")


def main() -> None:
    """Run the benchmark and print one line per recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--root", type=Path, default=Path(".cache/npm"), help="folder of the fetched icon sets")
    parser.add_argument("--samplers", nargs="+", default=list(SAMPLERS), choices=SAMPLERS)
    parser.add_argument("--steps", nargs="+", type=int, default=[6, 8, 10, 12, 16, 20])
    parser.add_argument("--guidance_scale", nargs="+", type=float, default=[2.0, 3.0, 4.0, 6.0])
    parser.add_argument("--every", type=int, default=5, help="use every n-th concept")
    args = parser.parse_args()
    base, scorer, second = Base(args.base), Scorer(), NearestMean(args.root)
    config, names = dict(base.scheduler.config), list(load_concepts().values())
    label = torch.arange(len(names))[:: args.every]
    pairs = [(name, colour) for name in COLOURED for colour in COLOURS][:: args.every]
    prompts = [with_article(names[i]) for i in label]
    prompts += [describe(name, Scene(colour=colour)) for name, colour in pairs]
    print("| sampler | steps | guidance | scorer | second judge | colour | error | s per picture |")
    print("|---|---|---|---|---|---|---|---|")
    for guidance_scale in args.guidance_scale:
        base.guidance_scale, base.steps = guidance_scale, 100
        base.scheduler = diffusers.DPMSolverMultistepScheduler.from_config(config)
        limit = base.sample(prompts).float()
        for sampler in args.samplers:
            base.scheduler = getattr(diffusers, sampler).from_config(config)
            for steps in args.steps:
                base.steps = steps
                started = time.perf_counter()
                images = base.sample(prompts)
                seconds = (time.perf_counter() - started) / len(prompts)
                things, coloured = images[: len(label)], images[len(label) :]
                first, other = ((judge.guess(things) == label).float().mean() for judge in (scorer, second))
                obeyed = colours_obeyed(coloured, [colour for _, colour in pairs]).float().mean()
                error = (images.float() - limit).square().mean().sqrt()
                print(
                    f"| {sampler} | {steps} | {guidance_scale} | {first:.3f} | {other:.3f} "
                    f"| {obeyed:.3f} | {error:.1f} "
                    f"| {seconds:.3f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
