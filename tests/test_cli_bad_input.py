"""Bad pictures and options are refused in one sentence that leaves nothing behind."""

import json
import shutil

import pytest

from tests.runs import fit_words, one_sentence, run_cli


def remove(pattern):
    def edit(folder):
        for path in folder.glob(pattern):
            path.unlink()

    return edit


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def listing(line):
    rows = [json.dumps({"file_name": f"{i}.bmp", "text": f"thing {i}"}) for i in range(8)]
    return write("metadata.jsonl", "\n".join([*rows, line]).encode())


PICTURES = {
    "empty": (remove("*"), "holds no pictures"),
    "unreadable": (write("3.bmp", b"no picture"), "1 pictures in {root} cannot be read (3.bmp)"),
    "cut off": (write("3.bmp", b"BM" + bytes(60)), "1 pictures in {root} cannot be read (3.bmp)"),
    "without caption": (remove("3.txt"), "1 of 8 pictures in {root} have no caption (3.bmp)"),
    "listing with a lost file": (
        listing('{"file_name": "9.bmp", "text": "x"}'),
        "1 missing pictures (9.bmp)",
    ),
    "listing with a broken line": (listing('{"file_name": "9.b'), "metadata.jsonl line 9 is not"),
    "listing with a number": (listing('{"file_name": "1.bmp", "text": 1}'), "metadata.jsonl line 9 is not"),
    "of another encoding": (write("3.txt", b"caf\xe9"), "3.txt is not UTF-8"),
    "too few": (remove("[3-7].*"), "3 pictures are too few to train on two and hold out two others"),
}
BAD_OPTIONS = {
    "missing folder": ("--data.root=no/such/folder", "the data folder no/such/folder does not exist"),
    "resolution no multiple": ("--data.resolution=100", "must be a multiple of 64, such as 64 or 128"),
    "resolution 0": ("--data.resolution=0", "must be a multiple of 64, such as 64 or 128"),
    "unknown interpolation": (
        "--data.interpolation=blurry",
        "interpolation 'blurry' is unknown; choose one of nearest",
    ),
    "batch too large": ("--data.batch_size=64", "one step needs 64 pictures but"),
    "batch size 0": ("--data.batch_size=0", "batch_size must be at least 1"),
    "no samples": ("--data.samples_per_prompt=0", "samples_per_prompt must be at least 1"),
    "share": ("--data.held_out=1.5", "held_out is 1.5; give a share from 0 to below 1"),
    "tag dropout NaN": ("--data.tag_dropout=.nan", "tag_dropout is nan; give a probability from 0 to below 1"),
    "workers": ("--data.num_workers=-1", "num_workers is -1; give a number of processes, at least 0"),
    "unknown target": (
        '--model.target_modules=["to_q","to_x"]',
        "no layer of this UNet matches to_x; available:",
    ),
    "no targets": ("--model.target_modules=[]", "no LoRA targets were given"),
    "rank 0": ("--model.rank=0", "LoRA rank must be at least 1, got 0"),
    "rate 0": ("--model.optimizer.lr=0", "learning rate lr is 0.0; it must be a number above 0"),
    "no steps": ("--model.num_inference_steps=0", "num_inference_steps is 0"),
    "unknown hub id": ("--model.base=no-owner/no-model", "base 'no-owner/no-model' is not in the local hub"),
    "unknown base": ("--model.base=nothing", "base 'nothing' does not exist"),
    "base without unet": ("--model.base={here}/no_unet", "is not a Stable Diffusion folder: it has no unet"),
    "base without weights": ("--model.base={here}/no_weights", "unet has no diffusion_pytorch_model.safetensors"),
    "pickled base": ("--model.base={here}/model.ckpt", "model.ckpt is pickled, and opening a pickle can run any code"),
    "base cut off": ("--model.base={here}/cut_off", "unet has no safetensors weights"),
    "all captions dropped": ("--model.caption_dropout=1", "caption_dropout is 1.0; give a share from 0"),
    "rate NaN": ("--model.optimizer.lr=.nan", "model.optimizer torch.optim.adamw.AdamW cannot be used"),
    "rate infinite": ("--model.optimizer.lr=.inf", "learning rate lr is inf"),
    "decay": (
        '--model.lr_scheduler={"class_path": "stylelora.schedules.Schedule", "init_args": {"decay": 2}}',
        "decay 2.0 and cycles 1; give decay a share above 0, at most 1",
    ),
    "ema": ("--model.ema_decay=1", "ema_decay is 1.0; give a number between 0 and 1"),
    "keep share": ("--model.keep_share=90", "keep_share is 90.0; give a share"),
    "old name": ("--model.learning_rate=1e-4", "optimizer.lr"),
    "every 0th epoch": ("--model.sample_every_n_epochs=0", "sample_every_n_epochs is 0; it must be at least"),
    "no trigger": ("--data=datamodules.StyleDataModule", "the style has no trigger word"),
}


@pytest.fixture(scope="module")
def bases(tiny_sd, tmp_path_factory):
    """Three folders and a file that are nearly a base."""
    folder = tmp_path_factory.mktemp("bases")
    for name in ("no_unet", "no_weights", "cut_off"):
        shutil.copytree(tiny_sd, folder / name)
    shutil.rmtree(folder / "no_unet" / "unet")
    (folder / "no_weights" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    weights = folder / "cut_off" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    (folder / "model.ckpt").write_bytes(b"PK\3\4")
    return folder


@pytest.mark.parametrize("case", PICTURES)
def test_bad_pictures_are_refused(case, tiny_sd, tiny_clip, pictures, tmp_path):
    edit, message = PICTURES[case]
    root = shutil.copytree(pictures, tmp_path / "style")
    edit(root)
    status, said = run_cli(fit_words(tiny_sd, tiny_clip, root, tmp_path / "runs" / "bad"))
    one_sentence(status, said)
    assert message.format(root=root) in said
    assert [path.name for path in tmp_path.iterdir()] == ["style"]


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_bad_options_are_refused(case, tiny_sd, tiny_clip, pictures, bases, tmp_path):
    word, message = BAD_OPTIONS[case]
    run = tmp_path / "runs" / "bad"
    status, said = run_cli(fit_words(tiny_sd, tiny_clip, pictures, run, word.replace("{here}", str(bases))))
    one_sentence(status, said)
    assert message in said
    assert not run.exists()
