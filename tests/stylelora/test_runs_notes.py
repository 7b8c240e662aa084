"""Notes of the training loss and of the pictures under kohya's names."""

import dataclasses
import json

from stylelora.data.dataset import StyleDataset
from stylelora.data.framing import Framing
from stylelora.data.wording import Wording
from stylelora.diffusion.objective import Objective
from stylelora.runs.notes import objective_notes, training_notes
from tests.runs import draw_pictures


def notes_of(**options):
    return objective_notes(dataclasses.asdict(Objective(**options)))


def test_each_option_has_its_note():
    plain = notes_of()
    assert {note: value for note, value in plain.items() if value} == {"ss_loss_type": "l2"}
    for option, value, note in (
        ("min_snr_gamma", 5.0, "ss_min_snr_gamma"),
        ("noise_offset", 0.1, "ss_noise_offset"),
        ("pyramid_iterations", 6, "ss_multires_noise_iterations"),
        ("input_perturbation", 0.1, "ss_ip_noise_gamma"),
        ("debiased_estimation", True, "ss_debiased_estimation"),
    ):
        assert notes_of(**{option: value})[note] == value
    assert notes_of(pyramid_iterations=6)["ss_multires_noise_discount"] == 0.3
    huber = notes_of(loss="huber", huber_c=0.2)
    assert [huber[f"ss_{name}"] for name in ("loss_type", "huber_schedule", "huber_c")] == ["huber", "constant", 0.2]


def test_folders_are_counted_as_kohya_counts_them(tmp_path):
    """`ss_num_train_images` is the sum over the folders of pictures times repeats; tags are of each caption once."""
    root = tmp_path / "train"
    draw_pictures(root / "10_cats", 3)
    draw_pictures(root / "3_dogs", 4)
    rows = [
        {"file_name": f"{i}.bmp", "texts": ["a dog, red", "a dog, blue"], "repeats": 1 + (i == 0)} for i in range(4)
    ]
    for text in (root / "3_dogs").glob("*.txt"):  # which say something else
        text.unlink()
    (root / "3_dogs" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = StyleDataset(root, 0.0, Framing(64), Wording("zqx", tag_dropout=0.2, keep_tags=1), repeats=2)
    dataset.scan()
    dataset.choose_sizes(64)
    objective = dataclasses.asdict(Objective())
    notes = training_notes(
        name="a", base="mini", width=768, prediction="epsilon", dataset=dataset, learning_rate=1e-4, batch_size=1,
        settings={
            "caption_dropout": 0, "objective": objective, "optimizer": {"class_path": "a"}, "lr_scheduler": None,
            "text_encoder": {"rank": 2, "learning_rate": 5e-5},
        },
        devices=1, accumulated=1, epoch=0, epochs=1, steps=1, seed=0,
    )  # fmt: skip
    assert (notes["ss_unet_lr"], notes["ss_text_encoder_lr"]) == ("0.0001", "5e-05")
    assert json.loads(notes["ss_dataset_dirs"]) == {
        "10_cats": {"n_repeats": 20, "img_count": 3},
        "6_3_dogs": {"n_repeats": 6, "img_count": 3},
        "12_3_dogs": {"n_repeats": 12, "img_count": 1},
    }
    assert int(notes["ss_num_train_images"]) == len(dataset.samples) == 20 * 3 + 6 * 3 + 12
    assert json.loads(notes["ss_bucket_info"])["buckets"]["0"]["count"] == 90
    tags = json.loads(notes["ss_tag_frequency"])
    assert tags["3_dogs"] == {"zqx": 8, "a dog": 8, "red": 4, "blue": 4}
    assert tags["10_cats"] == {"zqx": 3} | {f"a thing with number {i}": 1 for i in range(3)}
    assert (notes["ss_caption_tag_dropout_rate"], notes["ss_shuffle_caption"]) == ("0.2", "True")
