"""What kohya's settings become, by what its own code does with them."""

import json

import pytest
import yaml

from stylelora.migration.layers import PRESETS
from stylelora.migration.migrate import migrate
from stylelora.records import InputError

BASE = {"pretrained_model_name_or_path": "base", "network_module": "networks.lora", "train_data_dir": "pictures"}


def toml(settings):
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()).replace("NaN", "nan")


@pytest.fixture
def ours(tmp_path):
    """What a TOML of these settings becomes: options of model, data, and the rest."""

    def made(**settings):
        (tmp_path / "a.toml").write_text(toml(BASE | settings))
        migrate(str(tmp_path / "a.toml"), str(tmp_path / "ours.yaml"))
        config = yaml.safe_load((tmp_path / "ours.yaml").read_text())
        return config["model"]["init_args"], config["data"]["init_args"], config

    return made


@pytest.fixture
def from_gui(tmp_path):
    def made(**settings):
        gui = {"pretrained_model_name_or_path": "base", "LoRA_type": "Standard", "learning_rate": 1e-4, "epoch": 1}
        (tmp_path / "a.json").write_text(json.dumps(gui | settings))
        migrate(str(tmp_path / "a.json"), str(tmp_path / "ours.yaml"))
        config = yaml.safe_load((tmp_path / "ours.yaml").read_text())
        return config["model"]["init_args"], config["data"]["init_args"], config

    return made


def test_what_a_file_leaves_out_is_as_in_kohya(ours):
    model, data, config = ours()
    assert (model["rank"], model["alpha"], model["caption_dropout"], model["keep"]) == (4, 1.0, 0.0, "last")
    assert model["optimizer"] == {"class_path": "torch.optim.AdamW", "init_args": {"lr": 2e-6}}
    assert (data["batch_size"], data["held_out"], data["template"]) == (1, 0.0, "{text}")
    assert config["trainer"]["max_steps"] == 1600 and config["trainer"]["gradient_clip_val"] == 1.0


@pytest.mark.parametrize(
    ("settings", "unet", "text"),
    [
        ({"learning_rate": 1e-4}, 1e-4, 1e-4),
        ({"learning_rate": 1e-4, "unet_lr": 2e-4}, 2e-4, 1e-4),
        ({"learning_rate": 1e-4, "text_encoder_lr": 5e-5}, 1e-4, 5e-5),
        ({"unet_lr": 2e-4, "text_encoder_lr": [5e-5]}, 2e-4, 5e-5),
        ({"learning_rate": 1e-4, "text_encoder_lr": 0.0}, 1e-4, None),
        ({"learning_rate": 1e-4, "text_encoder_lr": 5e-5, "network_train_unet_only": True}, 1e-4, None),
    ],
)
def test_each_part_has_its_learning_rate(ours, settings, unet, text):
    model, _, _ = ours(network_dim=8, network_alpha=2, **settings)
    assert model["optimizer"]["init_args"]["lr"] == unet
    found = model["text_encoder"]
    assert found.get("learning_rate") == text
    assert (found["rank"], found.get("alpha")) == ((0, None) if text is None else (8, 2.0))


@pytest.mark.parametrize(
    ("settings", "shape", "warmup", "cycles"),
    [
        ({"lr_scheduler": "constant", "lr_warmup_steps": 100}, "constant", None, None),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 100}, "constant", 100, None),
        ({"lr_scheduler": "cosine", "lr_warmup_steps": 0.1}, "cosine", 0.1, None),
        ({"lr_scheduler": "cosine", "lr_scheduler_num_cycles": 3}, "cosine", None, None),
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3}, "cosine", None, 3),
        ({"lr_scheduler": "polynomial"}, "linear", None, None),
    ],
)
def test_the_schedule(ours, settings, shape, warmup, cycles):
    found = ours(**settings)[0]["lr_scheduler"]
    assert found["class_path"] == "stylelora.schedules.Schedule"
    assert [found["init_args"].get(name) for name in ("shape", "warmup", "cycles")] == [shape, warmup, cycles]


def test_epochs_count_before_steps(ours):
    trainer = ours(max_train_steps=500, max_train_epochs=3)[2]["trainer"]
    assert trainer["max_epochs"] == 3 and "max_steps" not in trainer


def test_convolutions_have_their_own_rank_and_alpha(ours):
    model, _, _ = ours(network_dim=8, network_alpha=8, network_args=["conv_dim=4"])
    assert set(model["lora"]["rank_pattern"].values()) == {4}
    assert set(model["lora"]["alpha_pattern"].values()) == {1.0}  # kohya's default
    assert {*model["lora"]["rank_pattern"]} < {*model["target_modules"]}
    assert "conv1" not in ours(network_dim=8)[0]["target_modules"]


@pytest.mark.parametrize(
    ("words", "convolutions", "rank", "alpha", "text"),
    [
        ([], 5, None, None, 6),  # convolutions have network_dim and network_alpha
        (["conv_dim=4"], 5, 4, 6.0, 6),
        (["conv_alpha=2"], 5, None, 2.0, 6),
        (["conv_dim=4", "conv_alpha=0"], 5, 4, 4, 6),
        (["conv_dim=0"], 0, None, None, 6),
        (["conv_dim=4", "conv_alpha=2", "preset=attn-mlp"], 0, None, None, 6),
        (["preset=attn-only"], 0, None, None, 4),
        (["preset=unet-convblock-only"], 5, None, None, 0),
    ],
)
def test_lycoris_has_layers_and_ranks_of_its_own(ours, words, convolutions, rank, alpha, text):
    model = ours(network_module="lycoris.kohya", network_dim=8, network_alpha=6, network_args=words)[0]
    own = {"conv1", "conv2", "conv", "conv_in", "conv_out"}
    assert len(own & {*model["target_modules"]}) == convolutions
    assert (model["rank"], model["alpha"]) == (8, 6.0)
    patterns = [model.get("lora", {}).get(name, {}) for name in ("rank_pattern", "alpha_pattern")]
    for found, one in zip(patterns, (rank, alpha), strict=True):
        assert found == ({} if one is None else dict.fromkeys(own, one))
    assert len(model["text_encoder"].get("target_modules", [])) == text if text else not model.get("text_encoder")


def test_lycoris_names_its_layers_as_the_base_does(ours, tiny_sd):
    from diffusers import UNet2DConditionModel

    names = dict(UNet2DConditionModel.from_pretrained(tiny_sd, subfolder="unet").named_modules())
    targets = {preset: ours(network_module="lycoris.kohya", network_args=[f"preset={preset}"]) for preset in PRESETS}
    layers = {
        preset: {name for name in names for target in made[0]["target_modules"] if f".{name}".endswith(f".{target}")}
        for preset, made in targets.items()
    }
    whole = {name for name, module in names.items() if type(module).__name__ in ("Linear", "Conv2d", "LoRACompatible")}
    assert layers["full"] == layers["unet-only"] == whole
    attention = {name for name in whole if ".attentions." in name}
    assert layers["attn-mlp"] == layers["unet-transformer-only"] == attention
    assert layers["attn-only"] == {name for name in attention if ".attn" in name}
    assert layers["unet-convblock-only"] == {name for name in whole - attention if "time_embedding" not in name}


def test_arguments_of_lycoris(ours, capsys):
    found = ours(network_module="lycoris.kohya", network_args=["dropout=0.2", "rs_lora=True"], network_dropout=0.1)[0]
    assert found["lora_dropout"] == 0.2 and found["lora"] == {"use_rslora": True}
    assert ours(network_module="lycoris.kohya", network_dropout=0.1)[0]["lora_dropout"] == 0.1
    assert "lora_dropout" not in ours(network_args=["dropout=0.2"])[0]  # networks.lora does not read it
    capsys.readouterr()
    ours(network_module="lycoris.kohya", network_args=["use_tucker=True", "train_norm=True", "preset=my.toml"])
    said = capsys.readouterr().out
    assert all(f"network_args.{name} = " in said for name in ("use_tucker", "train_norm", "preset"))


def test_options_of_the_loss(ours):
    model = ours(min_snr_gamma=5, debiased_estimation_loss=True, noise_offset=0.1, multires_noise_iterations=6)[0]
    assert model["objective"] == {"min_snr_gamma": 5.0, "noise_offset": 0.1}  # what would contradict them is said
    found = ours(loss_type="huber", huber_schedule="constant", huber_c=0.2, huber_scale=2.0, max_timestep=800)[0]
    assert found["objective"] == {"loss": "huber", "huber_c": 0.4, "timestep_range": [0.0, 0.8]}


def test_what_needs_another_setting_is_not_written_without_it(ours):
    assert "objective" not in ours(huber_c=0.2, multires_noise_discount=0.2, multires_noise_iterations=1)[0]
    assert ours(multires_noise_iterations=6, multires_noise_discount=0)[0]["objective"] == {"pyramid_iterations": 6}
    assert ours(multires_noise_iterations=6, multires_noise_discount=0.2)[0]["objective"]["pyramid_discount"] == 0.2


def test_samples_are_drawn_as_often_as_there_or_ten_times(ours):
    trainer = ours(max_train_steps=800, gradient_accumulation_steps=2)[2]["trainer"]
    assert (trainer["val_check_interval"], trainer["check_val_every_n_epoch"]) == (160, None)
    assert ours(max_train_epochs=50)[0]["sample_every_n_epochs"] == 5
    trainer = ours(sample_every_n_steps=100, gradient_accumulation_steps=2)[2]["trainer"]
    assert trainer["val_check_interval"] == 200
    assert ours(sample_every_n_epochs=3)[0]["sample_every_n_epochs"] == 3


def test_sizes_of_samples_are_said(ours, tmp_path):
    ours(sample_prompts="prompts.txt")
    line = next(line for line in (tmp_path / "ours.yaml").read_text().splitlines() if "sample_prompts" in line)
    assert "multiples of 64 for SD 1.5, not of 8" in line


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "pndm"])
def test_samples_have_the_scheduler_of_the_base_whatever_is_named(ours, capsys, sampler):
    ours(sample_sampler=sampler)
    assert f'sample_sampler = "{sampler}": samples are drawn with the base\'s own' in capsys.readouterr().out


def test_loggers(ours):
    assert "logger" not in ours(log_with="tensorboard", wandb_run_name="a")[2]["trainer"]
    made = ours(log_with="wandb", log_tracker_name="styles", wandb_run_name="a")[2]["trainer"]["logger"]
    assert made["class_path"].endswith(".WandbLogger") and made["init_args"] == {"project": "styles", "name": "a"}
    both = ours(log_with="all")[2]["trainer"]["logger"]
    assert [one["class_path"].rpartition(".")[2] for one in both] == ["TensorBoardLogger", "WandbLogger"]


def test_class_tokens(ours, tmp_path):
    sets = """[[datasets]]
[[datasets.subsets]]
image_dir = "a"
class_tokens = "ink"
[[datasets.subsets]]
image_dir = "b"
is_reg = true
class_tokens = "painting"
"""
    (tmp_path / "sets.toml").write_text(sets)
    data = ours(dataset_config="sets.toml", output_name="v1")[1]
    assert (data["root"], data["trigger"], data["prior"]) == ("a", "ink", {"root": "b", "prompt": "painting"})


def test_other_trainers_count_batches(tmp_path):
    one = {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_15", "gradient_accumulation_steps": 4}
    one |= {"save_every": 400, "save_every_unit": "STEP", "sample_after": 200, "sample_after_unit": "STEP"}
    one |= {"ema": "GPU", "ema_decay": 0.9, "ema_update_step_interval": 2}
    (tmp_path / "a.json").write_text(json.dumps(one))
    train = {"steps": 1000, "gradient_accumulation_steps": 4}
    process = {"type": "sd_trainer", "network": {"type": "lora"}, "model": {"name_or_path": "b"}, "train": train}
    process |= {"save": {"save_every": 400}, "sample": {"sample_every": 200}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"config": {"name": "a", "process": [process]}}))
    for name in ("a.json", "a.yaml"):
        migrate(str(tmp_path / name), str(tmp_path / "ours.yaml"))
        config = yaml.safe_load((tmp_path / "ours.yaml").read_text())
        assert config["save_adapter"]["every_n_steps"] == 100 and config["trainer"]["val_check_interval"] == 200
        assert config["model"]["init_args"].get("ema_decay") == (0.948683 if name == "a.json" else None)
    assert config["trainer"]["max_steps"] == 250


def test_two_halves_of_tags_and_captions(ours):
    data = ours(shuffle_caption=True, keep_tokens=2, caption_tag_dropout_rate=0.1)[1]
    assert (data["keep_tags"], data["tag_dropout"]) == (2, 0.1)
    assert "keep_tags" not in ours(keep_tokens=2)[1]
    assert ours(keep_tokens=2, caption_tag_dropout_rate=0.1)[1]["keep_tags"] == 2  # kohya drops none of these
    assert ours(caption_prefix="wc, {a}")[1]["template"] == "wc, {{a}} {text}"


def test_the_words_of_the_folder_are_the_trigger(ours, tmp_path):
    (tmp_path / "p" / "10_wc style").mkdir(parents=True)
    assert ours(train_data_dir=str(tmp_path / "p"))[1]["trigger"] == "wc style"
    assert ours(output_name="mine")[1]["trigger"] == "mine"


def test_the_gui_passes_on_what_it_would(from_gui):
    model, _, config = from_gui(lr_warmup=10, lr_scheduler="cosine", epoch=4, seed="", text_encoder_lr=0, unet_lr=3e-4)
    assert model["lr_scheduler"]["init_args"]["warmup"] == 0.1
    assert config["trainer"]["max_epochs"] == 4 and "seed_everything" not in config
    assert model["text_encoder"] == {"rank": 0} and model["optimizer"]["init_args"]["lr"] == 3e-4
    assert from_gui(epoch=4, max_train_steps=900)[2]["trainer"]["max_epochs"] == -1
    original = from_gui(noise_offset_type="Original", noise_offset=0.05, multires_noise_iterations=8)[0]
    assert original["objective"] == {"noise_offset": 0.05}
    multires = from_gui(noise_offset_type="Multires", noise_offset=0.05, multires_noise_iterations=8)[0]
    assert multires["objective"] == {"pyramid_iterations": 8}
    assert "lora" not in from_gui(conv_dim=8, conv_alpha=4)[0]  # LoRA_type Standard has no convolutions
    lycoris = from_gui(LoRA_type="LyCORIS/LoCon", LyCORIS_preset="unet-only", conv_dim=8, conv_alpha=4)[0]
    assert lycoris["lora"]["rank_pattern"]["conv_in"] == 8 and not lycoris.get("text_encoder")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"pretrained_model_name_or_path": "models/sd_xl_base_1.0.safetensors"}, "trains SDXL"),
        ({"pretrained_model_name_or_path": "black-forest-labs/FLUX.1-dev"}, "trains FLUX"),
        ({"network_module": "lycoris.kohya", "network_args": ["algo=loha"]}, "not train a LoRA"),
        ({"network_train_text_encoder_only": True}, "fit always trains the UNet"),
        ({"network_dim": "much"}, "must be a number"),
        ({"network_alpha": float("nan")}, "must be a number"),
        ({"mixed_precision": "fp4"}, "there are no, fp16, bf16"),
        ({"dataset_config": "nowhere.toml"}, "is not there"),
        ({"optimizer_args": ["weight_decay"]}, "write name=value"),
    ],
)
def test_what_cannot_be_is_one_sentence(ours, settings, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        ours(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.toml", "x = = 1", "is not TOML"),
        ("a.json", '{"a": 1}', "no config of a trainer"),
        ("a.json", "[1, 2]", "holds no settings"),
        ("a.yaml", "a: [", "is not YAML"),
        ("a.txt", "learning rate", "ends with .txt"),
        ("a.sh", "accelerate launch train_network.py", "with --output_config --config_file my.toml"),
        ("a.json", '{"pretrained_model_name_or_path": "b", "sdxl": true, "LoRA_type": "Standard"}', "trains SDXL"),
        ("a.json", '{"pretrained_model_name_or_path": "b", "learning_rate": 1e-5}', "Dreambooth or Finetune"),
        ("a.json", '{"training_method": "FINE_TUNE", "model_type": "STABLE_DIFFUSION_15"}', "does not train a LoRA"),
        ("a.json", '{"training_method": "LORA", "model_type": "FLUX_DEV_1"}', "trains FLUX_DEV_1"),
        ("a.yaml", "config: {process: [{type: sd_trainer, model: {is_xl: true}}]}", "trains SDXL"),
        ("a.yaml", "config: {process: []}", "has 0 processes"),
    ],
)
def test_a_file_of_another_kind_is_one_sentence(tmp_path, name, text, sentence):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=sentence) as error:
        migrate(str(tmp_path / name), str(tmp_path / "ours.yaml"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ours.yaml").exists()
