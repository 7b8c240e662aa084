"""Rules of sd-scripts on the loss, its noise and its timesteps, read in its own code."""

from __future__ import annotations

from typing import Any

from stylelora.migration.rows import UNUSED, Answer, Settings, Status, number, whole, yes


def terminal(value: Any, settings: Settings) -> Answer:
    """Zero terminal SNR, which only suits v-prediction."""
    if not yes(value, "zero_terminal_snr"):
        return UNUSED
    if not settings.on("v_parameterization"):
        return Answer(Status.UNSUPPORTED, "it needs a base that predicts v (v_parameterization); take it out")
    return Answer(Status.TAKEN, "", {"model.objective.zero_terminal_snr": True})


def timesteps(value: Any, settings: Settings) -> Answer:
    """The range of timesteps, as shares."""
    low, high = settings.number("min_timestep", 0), settings.number("max_timestep", 1000) or 1000
    if (low, high) == (0, 1000):
        return Answer(Status.TAKEN, "all timesteps, as here")
    return Answer(Status.TAKEN, "as shares of 1000", {"model.objective.timestep_range": [low / 1000, high / 1000]})


def debiased(value: Any, settings: Settings) -> Answer:
    """Debiased estimation, which kohya combines with min-SNR."""
    if not yes(value, "debiased_estimation_loss"):
        return UNUSED
    if settings.number("min_snr_gamma"):
        return Answer(Status.UNSUPPORTED, "not together with min_snr_gamma, which counts; take one of them out")
    return Answer(Status.TAKEN, "", {"model.objective.debiased_estimation": True})


def loss_type(value: Any, settings: Settings) -> Answer:
    """The loss; kohya's Huber loss is the pseudo-Huber loss that is used here."""
    if value in (None, "", "l2"):
        return Answer(Status.TAKEN, "", {"model.objective.loss": "mse"})
    if value not in ("huber", "smooth_l1"):
        return Answer(Status.UNSUPPORTED, "the plain loss is used; there is model.objective.loss huber")
    scale = settings.number("huber_scale", 1.0)
    options = {
        "model.objective.loss": "huber",
        "model.objective.huber_c": settings.number("huber_c", 0.1) * scale,
    }
    if value == "smooth_l1":
        return Answer(Status.EQUIVALENT, "the Huber loss, which is huber_c times it", options)
    return Answer(Status.TAKEN, "", options)


def of_huber(value: Any, settings: Settings) -> Answer:
    """What counts with the Huber loss only."""
    if settings.get("loss_type", "l2") not in ("huber", "smooth_l1"):
        return Answer(Status.IGNORED, "loss_type is not huber")
    return Answer(Status.TAKEN, "model.objective.huber_c, see loss_type")


def huber_schedule(value: Any, settings: Settings) -> Answer:
    """How huber_c depends on the timestep."""
    if settings.get("loss_type", "l2") not in ("huber", "smooth_l1"):
        return Answer(Status.IGNORED, "loss_type is not huber")
    if value == "constant":
        return Answer(Status.TAKEN, "huber_c is the same at all timesteps")
    return Answer(Status.UNSUPPORTED, "huber_c is the same at all timesteps here, as with constant")


def pyramid(value: Any, settings: Settings) -> Answer:
    """Multi-resolution noise."""
    count = whole(value or 0, "multires_noise_iterations")
    if count < 2:
        return Answer(Status.TAKEN, "one scale is plain noise, as here") if count else UNUSED
    if settings.number("noise_offset"):
        return Answer(Status.UNSUPPORTED, "not together with noise_offset, which counts; take one of them out")
    note = "pyramid noise; " + ("at most 10 scales" if count > 10 else "each picture draws its own sizes")
    return Answer(Status.EQUIVALENT, note, {"model.objective.pyramid_iterations": min(count, 10)})


def discount(value: Any, settings: Settings) -> Answer:
    """The discount of multi-resolution noise."""
    if (settings.number("multires_noise_iterations") or 0) < 2 or settings.number("noise_offset"):
        return Answer(Status.IGNORED, "multires_noise_iterations is not used")
    if not 0 < number(value, "multires_noise_discount") < 1:
        return Answer(Status.UNSUPPORTED, "it must be above 0 and below 1; kohya's default of 0.3 is used")
    return Answer(Status.TAKEN, "", {"model.objective.pyramid_discount": number(value)})
