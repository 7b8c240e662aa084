"""Filled templates."""

import base64
import io

import jinja2
import pytest
from PIL import Image

from stylelora.runs import html
from stylelora.runs.html import inline, render


@pytest.fixture
def template(monkeypatch):
    """Render a text as if it were a file among the templates."""

    def rendered(text, **values):
        environment = html._environment().overlay(loader=jinja2.DictLoader({"page.html": text}))
        monkeypatch.setattr(html, "_environment", lambda: environment)
        return render("page.html", **values)

    return rendered


def test_what_is_put_in_is_escaped_and_what_is_missing_is_an_error(template):
    assert template("<b>{{ name }}</b>", name="<i>&\"'") == "<b>&lt;i&gt;&amp;&#34;&#39;</b>"
    with pytest.raises(jinja2.UndefinedError):
        template("{{ name }}")


def test_the_page_that_others_extend_travels_with_the_package():
    assert render("base.html").startswith("<!doctype html>")


def test_a_picture_travels_inside_the_page():
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    head, data = inline(image).split(",")
    assert head == "data:image/png;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).getpixel((2, 1)) == (1, 2, 3)
