"""What a finished test leaves, made up."""

import json


def write_finished(folder, arms, losses=None, prompts=20, seeds=1, dataset="d", settings=None):
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
        {"arm": arm, "content": f"thing {i}", "seed": j, "values": {name: of(i, j) for name, of in metrics.items()}}
        for arm, metrics in arms.items()
        for i in range(prompts)
        for j in range(seeds)
    ]
    (folder / "values.jsonl").write_text("\n".join(map(json.dumps, lines)))
    lines = [
        {"arm": arm, "style": "ink", "sha256": f"{i:x}", "losses": [loss(i)] * 8}
        for arm, loss in (losses or {}).items()
        for i in range(12)
    ]
    (folder / "losses.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder
