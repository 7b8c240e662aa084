"""HTML rendering with the Jinja templates in `runs/templates`."""

from __future__ import annotations

import base64
import functools
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image


def render(template: str, **values: Any) -> str:
    """Render a template; values are escaped, since a name may contain `<`.

    Args:
        template: file in `stylelora/runs/templates`, such as `evaluation.html`; most extend `base.html`.
        values: template variables; a missing one is an error.
    """
    return _environment().get_template(template).render(**values)


def inline(image: Image) -> str:
    """Encode a picture as a PNG `data:` URL, so that the page is self-contained."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@functools.cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("stylelora.runs")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
