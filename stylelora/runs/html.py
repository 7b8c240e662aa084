"""Pages, rendered with the Jinja templates in `runs/templates`."""

from __future__ import annotations

import base64
import functools
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment
    from PIL.Image import Image


def render(template: str, **values: Any) -> str:
    """Render a template; on an HTML page values are escaped, since a name may contain `<`.

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
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    return Environment(
        loader=PackageLoader("stylelora.runs"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
