"""Notes of the training loss under kohya's names."""

import dataclasses

from stylelora.diffusion.objective import Objective
from stylelora.runs.notes import objective_notes


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
