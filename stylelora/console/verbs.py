"""The verbs of the command line: what each does, an example, and the options that its `--help` shows."""

from __future__ import annotations

#: Verb -> what it does, and words after it that make a good first example.
VERBS = {
    "fit": ("train a style LoRA", "--config configs/quickstart.yaml"),
    "validate": ("sample and score a checkpoint", "--config FILE --ckpt_path CHECKPOINT"),
    "predict": ("generate pictures with adapters", "--config configs/compose/one.yaml"),
    "test": ("measure adapters and blends", "--model.adapters '[mine.safetensors]'"),
    "preprocess": ("turn pictures into a training set", "--source DIR --style NAME"),
    "merge": ("blend LoRA files into one", "--adapters A B --weights 0.6 0.4 --output blend.safetensors"),
    "convert": ("rewrite a LoRA for other programs", "FILE --format diffusers --output new.safetensors"),
    "interference": ("measure how two LoRAs interfere", "--adapters A B --weights 0.6 0.4"),
    "compare": ("compare finished tests", "--runs A B"),
    "migrate": ("turn another trainer's config into ours", "FILE --output my.yaml"),
    "study": ("answer a question with many runs", "configs/ablations/rank/study.yaml"),
    "desk": ("blend by hand, watch trainings", "--adapters A B"),
}

#: Verb that Lightning does not run -> module with a function of the same name.
FUNCTIONS = {
    "preprocess": "stylelora.preprocess.preprocess",
    "merge": "stylelora.lora.merge",
    "convert": "stylelora.lora.convert",
    "interference": "stylelora.evaluation.interference",
    "compare": "stylelora.evaluation.compare",
    "migrate": "stylelora.migration.migrate",
    "study": "stylelora.studies.study",
    "desk": "stylelora.desk.desk",
}

#: Option of Lightning -> what it does. Lightning's own texts take paragraphs.
TRAINER = {
    "--config": "config of the run; its values replace the defaults shown here",
    "--trainer.max_epochs": "number of epochs",
    "--trainer.max_steps": "number of optimiser steps, instead of max_epochs",
    "--trainer.accelerator": "cpu, gpu, mps or auto",
    "--trainer.devices": "number of devices",
    "--trainer.precision": "32-true, or bf16-mixed or 16-mixed on a GPU",
    "--trainer.logger": "true, false, or the class path of another logger",
    "--trainer.default_root_dir": "output folder; default: runs/ + the config's path",
    "--resume": "folder of a run to go on with, instead of --config",
    "--resume_allow": "settings that may have changed since, such as model.optimizer.lr,data.flip; or all",
    "--style": "NAME=FOLDER, the pictures of a style, once for each; default: those trained on",
    "--ckpt_path": "checkpoint to start from, such as runs/NAME/checkpoints/last.ckpt",
    "--seed_everything": "random seed",
}
_RUN = ["--config", "--trainer.accelerator", "--trainer.devices", "--trainer.default_root_dir", "--seed_everything"]

_STYLE_DATA = ("data", "datamodules.StyleDataModule")
_BLEND = (
    ("model", "lightning_modules.ComposedStyles"),
    [
        "adapters",
        "weights",
        "base",
        "methods",
        "strengths",
        "guidance_scales",
        "num_inference_steps",
        "resolution",
        "triggers",
        "clip_skip",
        "unet_only",
    ],
)
_SCORE = (("clip_score", "callbacks.CLIPScore"), ["scorer"])

#: Verb -> (section, class) and the options of it that people set.
SECTIONS = {
    "fit": [
        (
            ("model", "lightning_modules.StyleLoRA"),
            ["base", "rank", "alpha", "target_modules", "lora_dropout", "lora", "text_encoder", "init_from",
             "optimizer", "lr_scheduler", "keep", "guidance_scale", "clip_skip", "sample_every_n_epochs"],
        ),
        (
            _STYLE_DATA,
            ["root", "trigger", "resolution", "batch_size", "repeats", "held_out", "buckets", "flip",
             "prompts", "prompts_file"],
        ),
        (("model.objective", "stylelora.diffusion.objective.Objective"), []),  # too many for a screen: --help_all
        (("data.prior", "stylelora.data.prior.Prior"), ["root"]),
        _SCORE,
        (("save_adapter", "callbacks.SaveAdapter"), ["every_n_epochs"]),
    ],
    "validate": [
        (("model", "lightning_modules.StyleLoRA"), ["base", "rank", "alpha", "num_inference_steps", "guidance_scale"]),
        (_STYLE_DATA, ["root", "trigger", "resolution", "batch_size", "held_out", "prompts", "samples_per_prompt"]),
        _SCORE,
    ],
    "predict": [
        _BLEND,
        (("data", "datamodules.Prompts"), ["prompts", "file", "negative_prompt", "samples_per_prompt", "batch_size"]),
        (("write_pictures", "callbacks.WritePictures"), ["columns"]),
    ],
    "test": [
        (_BLEND[0], [*_BLEND[1], "prompt_baselines"]),
        (("data", "datamodules.EvaluationSet"), ["styles", "prompts", "file", "samples_per_prompt", "batch_size"]),
        (("evaluate", "callbacks.Evaluate"), ["content", "style", "distribution"]),
    ],
}  # fmt: skip

#: Verbs that Lightning runs.
TRAINED = tuple(SECTIONS)

#: Verb -> options of Lightning that it shows.
SHOWN = {
    "fit": [option for option in TRAINER if option not in ("--resume_allow", "--style", "--ckpt_path")],
    "validate": [*_RUN, "--ckpt_path"],
    "predict": _RUN,
    "test": [*_RUN, "--style"],
}

#: Verb -> more examples.
EXAMPLES = {
    "fit": [
        "--config configs/quickstart.yaml --data.root DIR --data.trigger zqstyle",
        "--resume runs/quickstart --trainer.max_epochs 20",
    ],
    "predict": ["--config configs/compose/one.yaml --data.prompts '[a cat, a dog]'"],
    "test": ["--model.adapters '[A, B]' --style A=DIR --style B=DIR", "--config configs/evaluate/mini.yaml"],
    "preprocess": ["--source DIR --style NAME --trigger zqstyle --allow enlarged,jpeg"],
    "merge": ["--adapters A B --weights 0.6 0.4 --rank 32 --output blend.safetensors"],
    "convert": ["FILE --dtype float16 --output small.safetensors"],
    "compare": ["--runs A1,A2,A3 B1,B2,B3 --margin 0.1"],
    "migrate": ["config.toml", "lora.json --output configs/train/mine.yaml"],
    "study": ["FILE --dry_run true"],
}
