"""What a finished test leaves, made up."""

import json


def weights_of(condition):
    """Return weights of styles from a name such as `ink 0.6 + oil 0.4, composite`; none of the base or of words."""
    words = [] if condition == "base" or condition.startswith('"') else condition.partition(", ")[0].split(" + ")
    return {name: float(weight) for name, weight in (word.split(" ") for word in words)}


def write_finished(folder, conditions, losses=None, prompts=20, seeds=1, dataset="d", settings=None, backwards=False):
    """Write the files of a test.

    Args:
        conditions: condition -> quantity -> function of prompt and seed.
        losses: condition -> function of the number of a held-out picture of the style ink.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model": {"init_args": settings or {}}, "data": {"init_args": {}}}
    result = {"status": "success", "dataset": dataset, "config": config, "metrics": [], "tests": []}
    (folder / "result.json").write_text(json.dumps(result))
    lines = [
        {
            "condition": condition,
            "weights": weights_of(condition),
            "method": condition.partition(", ")[2] or "sum",
            "content": f"thing {i}",
            "seed": j,
            "values": [quantity.as_record() | {"value": of(i, j)} for quantity, of in metrics.items()],
        }
        for condition, metrics in conditions.items()
        for i in list(range(prompts))[:: -1 if backwards else 1]
        for j in range(seeds)
    ]
    (folder / "values.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [
        {"condition": condition, "style": "ink", "sha256": f"{i:x}", "losses": [loss(i)] * 8}
        for condition, loss in (losses or {}).items()
        for i in range(12)
    ]
    (folder / "losses.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "pictures.jsonl").write_text(json.dumps({"adapters": {"ink": folder.name}}))
    return folder
