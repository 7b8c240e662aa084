"""What a finished test leaves, made up."""

import json


def weights_of(arm):
    """Return weights of styles from a name such as `ink 0.6 + oil 0.4, composite`; none of the base or of words."""
    words = [] if arm == "base" or arm.startswith('"') else arm.partition(", ")[0].split(" + ")
    return {name: float(weight) for name, weight in (word.split(" ") for word in words)}


def write_finished(folder, arms, losses=None, prompts=20, seeds=1, dataset="d", settings=None, backwards=False):
    """Write the files of a test.

    Args:
        arms: arm -> metric -> function of prompt and seed.
        losses: arm -> function of the number of a held-out picture of the style ink.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": {"init_args": settings or {}}, "data": {"init_args": {}}}
    result = {"status": "success", "dataset": dataset, "config": config, "metrics": {}}
    (folder / "result.json").write_text(json.dumps(result))
    lines = [
        {
            "arm": arm,
            "weights": weights_of(arm),
            "method": arm.partition(", ")[2] or "sum",
            "content": f"thing {i}",
            "seed": j,
            "values": {name: of(i, j) for name, of in metrics.items()},
        }
        for arm, metrics in arms.items()
        for i in list(range(prompts))[:: -1 if backwards else 1]
        for j in range(seeds)
    ]
    (folder / "values.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [
        {"arm": arm, "style": "ink", "sha256": f"{i:x}", "losses": [loss(i)] * 8}
        for arm, loss in (losses or {}).items()
        for i in range(12)
    ]
    (folder / "losses.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "pictures.jsonl").write_text(json.dumps({"adapters": {"ink": folder.name}}))
    return folder
