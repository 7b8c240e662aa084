"""Whatever a program writes is refused once, at each of its steps: one sentence, whole files, and nothing left over."""

import json

import pytest

from tests.faults.refusing import KINDS, refuse_each
from tests.raw import noise
from tests.runs import evaluation_words, fit_words, run_cli


@pytest.fixture
def folder_of(tmp_path):
    """Makes empty folders."""

    def make(name):
        folder = tmp_path / "out" / name
        folder.mkdir(parents=True)
        return folder

    return make


SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in ("diffusers", "peft")]


@pytest.mark.parametrize("form", ["kohya", *SLOW])
def test_convert(adapter_files, folder_of, form):
    name = "new" if form == "peft" else "new.safetensors"

    def work(folder):
        return run_cli(["convert", str(adapter_files[0]), f"--format={form}", f"--output={folder / 'in' / name}"])

    assert len(refuse_each(folder_of, work)) >= 4


@pytest.mark.slow
def test_merge_spares_an_older_file(adapter_files, folder_of):
    def with_older(name):
        folder = folder_of(name)
        (folder / "blend.safetensors").write_bytes(b"older")
        return folder

    files = json.dumps([str(file) for file in adapter_files])

    def work(folder):
        words = ["merge", f"--adapters={files}", "--weights=[0.6, 0.4]", f"--output={folder / 'blend.safetensors'}"]
        return run_cli(words)

    assert len(refuse_each(with_older, work)) == 3  # no folder is made


def test_migrate(folder_of, tmp_path):
    theirs = tmp_path / "config.toml"
    theirs.write_text('pretrained_model_name_or_path = "a/b"\nnetwork_module = "networks.lora"\nnetwork_dim = 8\n')
    refused = refuse_each(folder_of, lambda folder: run_cli(["migrate", str(theirs), f"--output={folder}/a/b.yaml"]))
    assert len(refused) >= 4


@pytest.mark.slow
def test_interference(tiny_sd, adapter_files, folder_of):
    files = json.dumps([str(file) for file in adapter_files])

    def work(folder):
        words = ["interference", f"--adapters={files}", "--weights=[0.6, 0.4]", f"--base={tiny_sd}"]
        return run_cli([*words, f"--output={folder / 'map.png'}"])

    assert len(refuse_each(folder_of, work)) >= 3


@pytest.mark.slow
def test_preprocess(folder_of, tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in range(3):
        noise(i).save(raw / f"thing {i}.png")

    def work(folder):
        options = ["--style=zebra", "--trigger=zqx", "--resolution=64", "--captions=filename", "--strict=false"]
        return run_cli(["preprocess", f"--source={raw}", f"--output={folder / 'data'}", "--workers=1", *options])

    names = {name for _, name in refuse_each(folder_of, work)}
    assert names > {"rows.jsonl", ".data.partial"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_fit(tiny_sd, tiny_clip, pictures, folder_of, tmp_path, kind):
    def work(folder):
        more = ["--data.repeats=1", f"--data.cache={tmp_path / 'cache'}", "--save_adapter.every_n_epochs=1"]
        more += ["--trainer.logger=[CSVLogger, TensorBoardLogger]"]
        return run_cli(fit_words(tiny_sd, tiny_clip, pictures, folder / "run", *more))

    work(folder_of("first"))  # fills the cache
    refused = [name for _, name in refuse_each(folder_of, work, [kind])]
    assert len(refused) >= (3 if kind == "mkdir" else 12), refused


@pytest.mark.slow
def test_predict(tiny_sd, adapter_files, folder_of):
    def work(folder):
        return run_cli([
            *("predict", "--model=lightning_modules.ComposedStyles", f"--model.base={tiny_sd}"),
            f"--model.adapters={json.dumps([str(file) for file in adapter_files])}",
            *("--model.weights=[[0.6, 0.4]]", "--model.num_inference_steps=1", "--data=datamodules.Prompts"),
            *("--data.prompts=[a cat]", f"--trainer.default_root_dir={folder / 'run'}", "--trainer.logger=false"),
            *("--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"),
        ])  # fmt: skip

    refused = [name for _, name in refuse_each(folder_of, work)]
    assert len(refused) > 15, refused


@pytest.mark.slow
def test_test(tiny_sd, tiny_clip, adapter_files, pictures, folder_of):
    def work(folder):
        words = evaluation_words(
            tiny_sd, tiny_clip, adapter_files[:1], [pictures], folder / "run", "--data.prompts=[a cat, a tree]",
            "--model.num_inference_steps=1", weights="[[1.0]]",
        )  # fmt: skip
        return run_cli(words)

    refused = {name for kind in ("open", "rename") for _, name in refuse_each(folder_of, work, [kind])}
    assert len(refused) > 8, refused
