"""The tab that watches trainings, in a browser."""

import re
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests import watched
from tests.browsing import IN_BROWSER, browse

pytestmark = IN_BROWSER
SOON = 30_000  # ms


browser = pytest.fixture(browse, scope="module")


@pytest.fixture
def open_tab(browser, tmp_path, monkeypatch):
    """Return what serves the tab of a folder of runs and opens a page of it."""
    import gradio as gr

    from stylelora.desk.watch_tab import watch_tab

    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    served, failed, pages = [], [], []

    def serve(runs, port=None):
        with gr.Blocks() as blocks, gr.Tab("Watch"):
            watch_tab(runs)
        served[:] = [(blocks, blocks.launch(server_port=port, prevent_thread_lock=True, quiet=True, ssr_mode=False)[1])]

    def opened(runs, width=1200):
        if not served:
            serve(runs)
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(SOON)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.on("console", lambda said: said.type == "error" and failed.append(said.text))
        page.goto(served[0][1])
        pages.append(page)
        return page

    def restarted(runs):
        blocks, url = served[0]
        blocks.close()
        serve(runs, int(url.rstrip("/").rpartition(":")[2]))
        opened.restarts = True  # which the page reports

    opened.restarted, opened.restarts = restarted, False
    yield opened
    for page in pages:
        page.close()
    for blocks, _ in served:
        blocks.close()
    errors = [one for one in failed if "ERR_NAME_NOT_RESOLVED" not in one and "Failed to load resource" not in one]
    assert errors == [] or opened.restarts


def says(page, part, words):
    page.locator(f"#watch-{part}").get_by_text(re.compile(words)).first.wait_for()


def sheet(page):
    """The bytes of the sheet that is shown."""
    return page.request.get(page.locator("#watch-sheet img").get_attribute("src")).body()


def choose(page, name):
    page.locator("#watch-run input").click()
    page.get_by_role("option", name=name).click()


def downloaded(page, which):
    with page.expect_download() as started:
        page.locator(f"#watch-{which}").click()
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def test_a_finished_training_is_shown_and_handed_out(open_tab, tmp_path):
    runs = tmp_path / "runs"
    ink, _ = watched.write_training(runs / "train" / "ink")
    watched.save_adapter(ink, f"-{watched.point(0)}", 0)
    page = open_tab(runs)
    says(page, "state", "Finished after epoch 3 of 3")
    says(page, "state", "inkstyle")
    says(page, "caption", "Epoch 2 of 3, kept")
    says(page, "caption", re.escape("Skill 0.300 (0.250 to 0.340)."))
    page.locator("#watch-sheet img").wait_for()
    assert sheet(page) == (ink / "samples" / f"{watched.point(1)}.png").read_bytes()
    assert page.locator("#watch-curves svg[role=img]").count() == 3
    assert downloaded(page, "kept") == ("ink.safetensors", (ink / "ink.safetensors").read_bytes())
    assert downloaded(page, "last") == ("ink-last.safetensors", (ink / "ink-last.safetensors").read_bytes())
    assert not page.locator("#watch-own").is_visible()

    page.locator("#watch-place input[type=range]").focus()
    page.keyboard.press("ArrowLeft")
    says(page, "caption", "Epoch 1 of 3$")
    page.wait_for_function(f"document.querySelector('#watch-sheet img')?.src.includes('{watched.point(0)[-6:]}.png')")
    assert sheet(page) == (ink / "samples" / f"{watched.point(0)}.png").read_bytes()
    page.locator("#watch-own").wait_for()
    assert downloaded(page, "own")[1] == (ink / f"ink-{watched.point(0)}.safetensors").read_bytes()
    page.get_by_text("All numbers").click()
    says(page, "numbers", "2 \\(kept\\)")


def test_a_training_is_followed_until_it_ends_by_two_pages(open_tab, tmp_path):
    runs = tmp_path / "runs"
    pages = [open_tab(runs), open_tab(runs, width=360)]
    for page in pages:
        says(page, "state", "Nothing has been trained below .* yet; type")
    folder, writer = watched.write_training(runs / "ink", 0, "running", planned=4)
    with FileLock(folder / ".lock"):
        for page in pages:
            choose(page, re.compile("training now"))
            says(page, "state", "Training now; nothing is yet measured")
        watched.write_epoch(folder, writer, 0, kept=True)
        for page in pages:
            says(page, "state", "epoch 1 of 4 is measured")
            says(page, "caption", "Epoch 1 of 4, kept")
        watched.write_epoch(folder, writer, 1, kept=True)
        for page in pages:  # what is kept is followed
            says(page, "caption", "Epoch 2 of 4, kept")
        slider = pages[0].locator("#watch-place input[type=range]")
        slider.focus()
        pages[0].keyboard.press("ArrowLeft")
        says(pages[0], "caption", "Epoch 1 of 4$")
        watched.write_epoch(folder, writer, 2, sheet=False, kept=True)
        says(pages[1], "caption", "Epoch 3 of 4, kept")
        says(pages[1], "caption", "No sheet was drawn here")
        says(pages[0], "state", "epoch 3 of 4 is measured")
        says(pages[0], "caption", "Epoch 1 of 4$")  # but nobody is moved away from what they chose
    for page in pages:
        says(page, "state", "Ended without a word.*--resume")
    page = pages[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_is_gone_or_damaged_is_said_and_what_is_outside_is_not_served(open_tab, tmp_path):
    runs = tmp_path / "runs"
    ink, _ = watched.write_training(runs / "ink")
    watched.write_training(runs / "<b>oil")
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    page = open_tab(runs)
    choose(page, re.compile("^ink"))
    says(page, "caption", "Epoch 2 of 3, kept")
    url = page.url.rstrip("/")
    for path in (secret, ink / "ink.safetensors", ink / "config.yaml"):  # only copies of what was shown
        assert page.request.get(f"{url}/gradio_api/file={path}").status in (403, 404)
    shutil.move(ink, tmp_path / "moved")
    says(page, "state", "The run ink has been moved, renamed or deleted; choose another one")
    assert not page.locator("#watch-sheet img").is_visible() and not page.locator("#watch-kept").is_visible()
    choose(page, re.compile("oil"))
    says(page, "state", "Finished after epoch 3 of 3")
    shutil.move(tmp_path / "moved", ink)
    (ink / "result.json").write_text("{")
    (ink / "samples" / f"{watched.point(1)}.png").write_bytes(b"no picture")
    choose(page, re.compile("^ink"))
    says(page, "caption", "Epoch 2 of 3, kept")
    assert "Error" not in page.locator("body").inner_text()


def test_a_page_goes_on_when_the_server_was_started_again(open_tab, tmp_path):
    runs = tmp_path / "runs"
    watched.write_training(runs / "oil", 9, kept=7)
    watched.write_training(runs / "ink", 2)
    page = open_tab(runs)
    choose(page, "oil")
    says(page, "caption", "Epoch 8 of 9, kept")
    open_tab.restarted(runs)
    (runs / "oil" / "result.json").write_text('{"status": "failed", "error": "no room"}')
    says(page, "state", "Failed after epoch 9 of 9: no room")
    says(page, "caption", "Epoch 8 of 9, kept")
    assert page.locator(".toast-body").count() == 0
