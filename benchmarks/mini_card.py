"""The numbers of the embedded base's model card: `python -m benchmarks.mini_card`.

Autoencoder and scorer are measured on icon sets that no stage was trained on (fetched from npm, extra `mini`). The
pictures that the scorer judges in the last rows come from prompts "a <concept>", one seed each.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torchmetrics.functional.image import peak_signal_noise_ratio

from stylelora.base.load import (
    load_scheduler,
    load_text_encoder,
    load_tokenizer,
    load_unet,
    load_vae,
    read_config,
    resolve_base,
)
from stylelora.data.augment import composite
from stylelora.data.embedded import STYLES
from stylelora.data.embedded import folder as embedded
from stylelora.data.icon_table import STYLE_PHRASES, TEST_SETS, build_icon_table, load_concepts, name_of, with_article
from stylelora.data.images import fit_square, labelled_grid, open_picture, tile, to_tensor
from stylelora.data.scan import scan_folder
from stylelora.diffusion.sample import decode, denoise, initial_noise
from stylelora.metrics.encoders import ClipEncoder
from stylelora.metrics.statistics import mean_interval


def row(name: str, values: torch.Tensor, unit: str = "") -> None:
    """Print a line of the table: mean, 95 % interval, n."""
    metric = mean_interval(values.double().numpy())
    print(
        f"| {name} | {metric.value:.3f}{unit} | {metric.ci_low:.3f} to {metric.ci_high:.3f} | {metric.n} |", flush=True
    )


@torch.no_grad()
def sample(folder: Path, prompts: list[str], seed: int = 0, steps: int = 20, guidance: float = 4.0) -> torch.Tensor:
    """Make one picture per prompt, uint8 (N, 3, H, W)."""
    unet, vae, encoder, tokenizer = (f(folder) for f in (load_unet, load_vae, load_text_encoder, load_tokenizer))
    scheduler, size = load_scheduler(folder), read_config(folder, "unet")["sample_size"]

    def embed(texts: list[str]) -> torch.Tensor:
        return encoder(
            tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt").input_ids
        ).last_hidden_state

    shape = (vae.config.latent_channels, size, size)
    images = []
    for start in range(0, len(prompts), 16):
        part = prompts[start : start + 16]
        noise = initial_noise([seed * len(prompts) + start + i for i in range(len(part))], shape)
        images.append(decode(vae, denoise(unet, scheduler, noise, embed(part), embed([""]), steps, guidance)))
    return torch.cat(images)


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--scorer", default="mini")
    parser.add_argument("--root", default=".cache/npm", help="folder of the fetched icon sets")
    parser.add_argument("--sheet", type=Path, help="write the sheet of 24 named pictures here")
    args = parser.parse_args()
    folder, scorer = resolve_base(args.base), ClipEncoder(args.scorer)
    names = list(load_concepts().values())
    texts = scorer.encode_texts([with_article(name) for name in names])
    print("| what | value | 95 % interval | n |\n|---|---|---|---|")

    table = build_icon_table(TEST_SETS, args.root)
    pixels = composite(torch.from_numpy(table.pixels).permute(0, 3, 1, 2), torch.ones(()))
    vae = load_vae(folder)

    def psnr(images: torch.Tensor) -> torch.Tensor:
        decoded = [vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1) for x in images.split(32)]
        return peak_signal_noise_ratio(torch.cat(decoded), images, data_range=2.0, dim=(1, 2, 3), reduction="none")

    row("autoencoder, PSNR on unseen icon sets", psnr(pixels * 2 - 1), " dB")
    for style in STYLES:
        kernel = "nearest" if style == "pixelart" else "lanczos"
        pictures = [fit_square(open_picture(picture.path), 64, kernel) for picture in scan_folder(embedded(style))]
        images = torch.stack([to_tensor(picture) for picture in pictures]).float() / 127.5 - 1
        row(f"autoencoder, PSNR on the embedded {style} pictures", psnr(images), " dB")

    known = [(i, names.index(name_of(slug))) for i, slug in enumerate(table.slugs.tolist()) if name_of(slug) in names]
    real = (pixels[[i for i, _ in known]] * 255).round().to(torch.uint8)
    guess = (scorer.encode_images(real) @ texts.T).argmax(1)
    label = torch.tensor([j for _, j in known])
    row(f"scorer, names unseen icons among {len(names)}", (guess == label).float())

    for phrase in (None, *STYLE_PHRASES.values()):
        prompts = [f"a {phrase} of {with_article(name)}" if phrase else with_article(name) for name in names]
        started = time.perf_counter()
        images = sample(folder, prompts)
        seconds = (time.perf_counter() - started) / len(prompts)
        guess = (scorer.encode_images(images) @ texts.T).argmax(1)
        row(f'generated "{prompts[0]}" ..., named right by the scorer', (guess == torch.arange(len(names))).float())
        if phrase is None:
            print(f"| one picture, 20 steps, guidance 4, {torch.get_num_threads()} threads | {seconds:.2f} s | | |")
            cosines = F.cosine_similarity(scorer.encode_images(images), texts)
            row("generated, CLIP score of the scorer", cosines)
            if args.sheet:
                pick = list(range(0, len(names), 5))[:24]
                cells = {i: images[i] for i in pick}
                rows = [pick[i : i + 6] for i in range(0, 24, 6)]
                sheet = [(" / ".join(names[i] for i in some), [cells[i] for i in some]) for some in rows]
                labelled_grid(sheet, columns=[""] * 6).save(args.sheet)
                tile(images, columns=15).save(args.sheet.with_stem(args.sheet.stem + "-all"))


if __name__ == "__main__":
    main()
