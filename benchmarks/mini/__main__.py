"""The model card's table of the embedded base: `python -m benchmarks.mini`.

Autoencoder and scorer are tried on icon sets that no stage was trained on (fetched from npm; extra `mini`). Generated
pictures are named by two judges. The rows of the styles need the four adapters of `configs/train/mini/`.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from benchmarks.mini.base import TRAINED, Base
from benchmarks.mini.judges import COLOURED, NearestMean, Scorer, colours_obeyed, count_things, icons
from stylelora.base.concepts import load_concepts, with_article
from stylelora.data.images import fit, tile, to_tensor
from stylelora.data.reading import open_picture
from stylelora.data.scan import scan_folder
from stylelora.data.styles import STYLES, Style
from stylelora.lora.read import read_adapter
from stylelora.metrics.statistics import mean_interval
from stylelora.metrics.style import StyleEncoder, in_style
from stylelora.pretraining.icon_table import STYLE_PHRASES, TEST_SETS
from stylelora.pretraining.recolour import COLOURS, colour_name
from stylelora.pretraining.scenes import Scene, describe, held_out
from stylelora.runs.folder import adapter_file


def row(what: str, values: torch.Tensor, unit: str = "") -> None:
    """Print a line of the table: mean, 95 % interval, n."""
    metric = mean_interval(values.double().numpy())
    print(
        f"| {what} | {metric.value:.3f}{unit} | {metric.ci_low:.3f} to {metric.ci_high:.3f} | {metric.n} |", flush=True
    )


def style_pictures(style: Style) -> torch.Tensor:
    """Return the embedded pictures of a style, uint8 (N, 3, 64, 64)."""
    files = [picture.path for picture in scan_folder(style.folder)]
    return torch.stack([to_tensor(fit(open_picture(file), (64, 64), style.interpolation)) for file in files])


def things() -> list[str]:
    """Return 103 concepts, every third from the first; configs/evaluate/prompts_mini.txt has those from the second."""
    return list(load_concepts().values())[::3]


def autoencoder_rows(base: Base, root: Path) -> None:
    """Print how well the autoencoder reconstructs pictures, and how many are still recognised as their style."""

    def psnr(images: torch.Tensor, done: torch.Tensor) -> torch.Tensor:
        return peak_signal_noise_ratio(done.float(), images.float(), data_range=255.0, dim=(1, 2, 3), reduction="none")

    unseen = icons(TEST_SETS, root, concepts_only=False)[0]
    row("autoencoder, PSNR on unseen icon sets", psnr(unseen, base.reconstruct(unseen)), " dB")
    encoder = StyleEncoder()
    plain = encoder.encode_images(Base("mini").sample([with_article(name) for name in things()]))
    for name, style in STYLES.items():
        real = style_pictures(style)
        done = base.reconstruct(real)
        row(f"autoencoder, PSNR on the embedded {name} pictures", psnr(real, done), " dB")
        before, after = encoder.encode_images(real), encoder.encode_images(done)
        for words, vectors in (("before", before), ("after", after)):
            halves = [in_style(vectors[i::2], plain, before[1 - i :: 2]) for i in (0, 1)]
            row(f"{name} pictures {words} the autoencoder, judged in style by the other half", torch.cat(halves))


def concept_rows(base: Base, judges: list, root: Path, sheet: Path | None) -> None:
    """Print how often both judges recognise the prompted concept, in generated and in real pictures."""
    names = list(load_concepts().values())
    real, label = icons(TEST_SETS, root)
    for judge in judges:
        row(f"{judge.name}, real icons of unseen sets named right among {len(names)}", judge.guess(real) == label)
    for phrase in (None, *STYLE_PHRASES.values()):
        prompts = [f"a {phrase} of {with_article(name)}" if phrase else with_article(name) for name in names]
        images = base.sample(prompts)
        right = [judge.guess(images) == torch.arange(len(names)) for judge in judges]
        for judge, correct in zip(judges, right, strict=True):
            row(f'generated "{prompts[0]}", named right by the {judge.name}', correct)
        if phrase is None:
            row(f'generated "{prompts[0]}", named right by both', right[0] & right[1])
            if sheet:
                tile(images, columns=20).save(sheet)


def prompt_rows(base: Base) -> None:
    """Print how often colours, counts and backgrounds of the prompts are followed."""
    pairs = [(name, colour) for name in COLOURED for colour in COLOURS]
    images = base.sample([describe(name, Scene(colour=colour)) for name, colour in pairs], seed=1)
    obeyed = colours_obeyed(images, [colour for _, colour in pairs])
    new = torch.tensor([held_out(*pair) for pair in pairs])
    row(f"colour obeyed, {len(COLOURS)} colours x {len(COLOURED)} things", obeyed)
    row("... pairs that `NamedLatents` shows", obeyed[~new])
    row("... pairs it keeps from training", obeyed[new])

    images = base.sample([describe(name, Scene(background=colour)) for name, colour in pairs], seed=2)
    frame = torch.cat([images[:, :, 0], images[:, :, -1], images[:, :, :, 0], images[:, :, :, -1]], 2)
    seen = [colour_name(part.permute(1, 0)[None].numpy()) for part in frame]
    row("background obeyed", torch.tensor([name == colour for name, (_, colour) in zip(seen, pairs, strict=True)]))

    for count in (1, 2, 3):
        images = base.sample([describe(name, Scene(count=count)) for name in COLOURED] * 2, seed=3)
        counted = torch.tensor([count_things(image.permute(1, 2, 0).numpy()) for image in images])
        row(f'number obeyed, "{describe("cat", Scene(count=count))}"', counted == count)


def style_rows(base: Base, scorer: Scorer, adapters: Path, sheet: Path | None) -> None:
    """Print for each style's adapter how many pictures are in style and how many still show their concept."""
    names = things()
    label = torch.arange(len(load_concepts()))[::3]
    encoder, contents = StyleEncoder(), [with_article(name) for name in names]
    plain = base.sample(contents)
    plain_vectors = encoder.encode_images(plain)
    kept_by_base = (scorer.guess(plain) == label).double().mean()
    for name in TRAINED:
        path = adapter_file(adapters / name)
        if not path.is_file():
            print(f"| {name} | not measured: {path} is not there; train configs/train/mini/{name}.yaml | | |")
            continue
        images = base.sample(contents, adapters=[read_adapter(path)])
        references = encoder.encode_images(style_pictures(STYLES[name]))
        judged = in_style(encoder.encode_images(images), plain_vectors, references)
        row(f"{name} LoRA, judged in style", judged)
        row(
            f"{name} LoRA, scorer top-1 relative to the base's {kept_by_base:.3f}",
            (scorer.guess(images) == label) / kept_by_base,
        )
        if sheet:
            tile(images, columns=13).save(sheet.with_stem(f"{sheet.stem}-{name}"))


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", default="mini")
    parser.add_argument("--scorer", default="mini")
    parser.add_argument("--root", type=Path, default=Path(".cache/npm"), help="folder of the fetched icon sets")
    parser.add_argument("--adapters", type=Path, default=Path("runs/train/mini"), help="folder of the four style runs")
    parser.add_argument("--sheet", type=Path, help="PNG to write, one picture of every concept; styles beside it")
    args = parser.parse_args()
    base, judges = Base(args.base), [Scorer(args.scorer), NearestMean(args.root)]
    print("| what | value | 95 % interval | n |\n|---|---|---|---|")
    autoencoder_rows(base, args.root)
    concept_rows(base, judges, args.root, args.sheet)
    prompt_rows(base)
    style_rows(base, judges[0], args.adapters, args.sheet)
    base.sample(["a cat"])
    started = time.perf_counter()
    for seed in range(5):
        base.sample(["a cat"], seed)
    seconds = (time.perf_counter() - started) / 5
    print(f"| one picture alone, {base.steps} steps, {torch.get_num_threads()} threads | {seconds:.2f} s | | 5 |")


if __name__ == "__main__":
    main()
