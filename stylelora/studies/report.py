"""The report of a study: a page, Markdown, tables for other programs and for LaTeX, and figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stylelora.evaluation.export import export, finite
from stylelora.evaluation.summary import markdown
from stylelora.files import write
from stylelora.records import Quantity
from stylelora.runs.html import render
from stylelora.studies import report_figures as figures
from stylelora.studies.plan import Study
from stylelora.studies.report_design import Design, commands, design_of, single_commands
from stylelora.studies.report_measures import columns, meaning_of, spoken
from stylelora.studies.report_methods import covers, limits, method
from stylelora.studies.report_outcome import Outcome, declared, outcome_of
from stylelora.studies.report_pictures import as_jpeg, matrix_of, write_matrix
from stylelora.studies.report_read import Reading, read_arms
from stylelora.studies.report_tables import (
    arms_table,
    differences_table,
    endpoints_table,
    latex,
    records,
    runs_table,
    trends_table,
)
from stylelora.studies.report_words import answer, compared, endpoints_said, setting


def write_report(study: Study, folder: Path) -> Path:
    """Write the report of a study from what its runs and tests have left; runs without a result are named, with why.

    It is the same, byte for byte, whenever it is written from the same results.

    Args:
        study: from `read_study`.
        folder: of the report, such as `reports/rank`.

    Returns:
        its page, `report.html`.

    Raises:
        InputError: if no run is finished, tests cannot be set side by side, or matplotlib is not installed.
    """
    figures.check_matplotlib()
    found = read_arms(study)
    outcome = outcome_of(study, found)
    page, drawn = content(study, found, outcome), {}
    if outcome.primary is not None:
        drawn["response"] = figures.response(study, found, outcome)
    if outcome.differences:
        drawn["differences"] = figures.forest(study, outcome)
    if (by_timestep := figures.timesteps(found)) is not None:
        drawn["timesteps"] = by_timestep
    svgs = {name: figures.save(figure, folder / name) for name, figure in drawn.items()}
    matrix = matrix_of(found)
    if matrix is not None:
        write_matrix(matrix, folder / "pictures.png")
    rows = {} if matrix is None else {label: list(map(as_jpeg, files)) for label, files in matrix.rows.items()}
    export([*records(found, outcome)], folder / "table.csv")
    write(folder / "table.tex", latex(study, found, outcome))
    write(
        folder / "report.json", json.dumps(finite(_record(study, found, outcome, page)), indent=1, ensure_ascii=False)
    )
    write(folder / "report.md", render("study.md", **page, table=markdown, figures=list(svgs), matrix=matrix))
    write(folder / "report.html", render("study.html", **page, figures=svgs, matrix=matrix, rows=rows))
    return folder / "report.html"


def content(study: Study, found: Reading, outcome: Outcome) -> dict[str, Any]:
    """Return what page and Markdown say, without figures and pictures."""
    shown, design = columns(found, outcome.primary), design_of(study, found)
    endpoints = [one.quantity for _, one, *_ in declared(study, found, outcome)]
    return {
        "study": study,
        "primary": outcome.primary and spoken(outcome.primary),
        "answer": answer(study, found, outcome),
        "setting": setting(study, found, design),
        "compared": compared(study, outcome),
        "covers": covers(found.arms, outcome.primary),
        "meanings": {spoken(one): meaning_of(one, outcome) for one in dict.fromkeys([*shown, *endpoints])},
        "design": design,
        "arms": arms_table(found, outcome),
        "differences": differences_table(study, outcome) if outcome.differences else None,
        "trends": trends_table(study, outcome) if outcome.responses else None,
        "endpoints_said": endpoints_said(outcome),
        "endpoints": endpoints_table(study, found, outcome) if study.together else None,
        "method": method(study, found, outcome, design),
        "limits": limits(study, found, outcome),
        "unmeasured": outcome.unmeasured,
        "excluded": found.excluded,
        "runs": runs_table(design),
        "commands": commands(study, design),
        "single": single_commands(study),
        "plan": study.file.read_text(),
    }


def _record(study: Study, found: Reading, outcome: Outcome, page: dict[str, Any]) -> dict[str, Any]:
    """Return everything as plain values, for programs."""
    design: Design = page["design"]
    return {
        "question": study.question,
        "hypotheses": study.hypotheses,
        "study": str(study.file),
        "primary": _quantity(outcome.primary),
        "meanings": page["meanings"],
        "compare": study.compare,
        "against": study.against,
        "trend": study.trend,
        "margin": study.margin,
        "scale": [arm.label for arm in outcome.scale],
        "factors": found.factors,
        "answer": page["answer"],
        "setting": page["setting"],
        "arms": [{"label": arm.label, "levels": arm.levels, "seeds": arm.seeds} for arm in found.arms],
        "differences": [
            {
                **{"arm": one.this.label, "minus": one.first.label, "value": one.test.difference.value},
                **{"ci_low": one.test.difference.ci_low, "ci_high": one.test.difference.ci_high},
                **{"paired": one.paired, "p_value": one.test.p_value, "p_holm": one.p_holm},
                **{"p_equal": one.p_equal, "p_equal_holm": one.p_equal_holm, "shown": one.verdict},
            }
            for one in outcome.differences
        ],
        "trends": [
            {
                **{"at": one.others, "tau": one.trend.tau, "p_value": one.trend.p_value, "p_holm": one.p_holm},
                **{"slope": one.slope.value, "ci_low": one.slope.ci_low, "ci_high": one.slope.ci_high},
            }
            for one in outcome.responses
        ],
        "sufficient": [{"at": one.others, one.factor: one.level} for one in outcome.sufficient],
        "method": page["method"],
        "limits": page["limits"],
        "unmeasured": outcome.unmeasured,
        "excluded": found.excluded,
        "varied": [dict(zip(("factor", "level", "options"), row, strict=True)) for row in design.varied],
        "options": design.meanings,
        "kept": design.kept,
        "facts": design.facts,
        "tested": design.tested,
        "runs": design.runs,
        "versions": design.versions,
        "commands": page["commands"],
    }


def _quantity(quantity: Quantity | None) -> dict[str, Any] | None:
    return None if quantity is None else quantity.as_record()
