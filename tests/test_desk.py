"""The mixing desk as a visitor meets it: a process, and a real browser."""

import base64
import io
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.browsing import IN_BROWSER, Server, browse, until
from tests.runs import ROOT, run_cli

pytestmark = IN_BROWSER
pytest.importorskip("gradio")
SOON = 60_000  # ms
PIXEL = "data:image/png;base64,"


browser = pytest.fixture(browse, scope="module")


@pytest.fixture(scope="module")
def shelf(adapter_files, tmp_path_factory):
    """Copies of the adapters, which tests may delete."""
    folder = tmp_path_factory.mktemp("shelf")
    return [Path(shutil.copy(file, folder)) for file in adapter_files]


@pytest.fixture(scope="module")
def server(tiny_sd, shelf, tmp_path_factory):
    runs = tmp_path_factory.mktemp("desk") / "runs"
    server = Server(["--adapters", *shelf, "--base", tiny_sd, "--runs", runs])
    server.runs = runs
    yield server
    server.kill()


@pytest.fixture
def visit(browser, server):
    pages, failed = [], []

    def visited(query="num_inference_steps=2&seeds=[3]", width=1300):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.set_default_timeout(SOON)
        page.on("pageerror", lambda error: failed.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/?{query}")
        pages.append(page)
        until(lambda: pictures(page))
        return page

    yield visited
    for page in pages:
        page.close()
    assert failed == []


def pictures(page):
    """Return the pictures that are shown by the heading of their column; {} while one is being drawn."""
    if page.locator("#sheet .pending").count():
        return {}
    found = {}
    for image in page.locator("#sheet img").all():
        heading = image.get_attribute("alt").split(":")[0]
        source = image.get_attribute("src").removeprefix(PIXEL)
        found[heading] = np.asarray(Image.open(io.BytesIO(base64.b64decode(source))))
    return found


def set_weight(page, place, value):
    box = page.locator(f"#weight-{place} input[type=number]")
    box.fill(str(value))
    box.press("Enter")


def take(page, what):
    page.locator(f"#take-{what}").click()
    link = page.locator("#taken a[download]")
    ending = {"picture": "desk.png", "config": "desk.yaml", "lora": "blend.safetensors"}[what]
    until(lambda: link.count() and ending in link.first.get_attribute("href"))
    return page.request.get(link.first.get_attribute("href")).body()


def open_taking(page):
    page.locator("#take-away").get_by_text("Take away").click()


def test_a_slider_moves_and_the_pictures_become_those_of_predict(visit, tmp_path):
    page = visit()
    before = pictures(page)
    assert list(before) == ["base", "ink 1", "oil 1", "ink 0.6 + oil 0.4"]
    set_weight(page, 0, 0.25)
    moved = until(lambda: (found := pictures(page)).get("ink 0.25 + oil 0.4") is not None and found)
    assert np.array_equal(moved["base"], before["base"]) and np.array_equal(moved["oil 1"], before["oil 1"])
    assert not np.array_equal(moved["ink 0.25 + oil 0.4"], before["ink 0.6 + oil 0.4"])
    until(lambda: "0.25" in page.url)
    open_taking(page)
    (tmp_path / "desk.yaml").write_bytes(take(page, "config"))
    words = ["predict", f"--config={tmp_path / 'desk.yaml'}", f"--trainer.default_root_dir={tmp_path / 'run'}"]
    code, said = run_cli([*words, "--trainer.logger=false", "--trainer.accelerator=cpu"])
    assert code == 0, said
    drawn = [np.asarray(Image.open(file)) for file in sorted((tmp_path / "run" / "pictures").glob("*.png"))]
    assert len(drawn) == 4 and all(map(np.array_equal, moved.values(), drawn))


def test_one_lora_is_that_of_merge(visit, shelf, tmp_path):
    page = visit()
    open_taking(page)
    taken, output = take(page, "lora"), tmp_path / "cli" / "blend.safetensors"
    words = ["merge", "--adapters", *map(str, shelf), "--weights", "0.6", "0.4", "--output", str(output)]
    assert run_cli(words) == (0, "")
    assert taken == output.read_bytes()
    assert "write 'inkstyle, oilstyle' into the prompt" in page.locator("#told").inner_text()


def test_a_picture_brings_its_settings_back(visit, tmp_path):
    page = visit()
    set_weight(page, 1, 1.2)
    until(lambda: "ink 0.6 + oil 1.2" in pictures(page))
    open_taking(page)
    (tmp_path / "taken.png").write_bytes(take(page, "picture"))
    other = visit("adapters=[]&weights=[]&num_inference_steps=2")
    assert list(pictures(other)) == ["base"]
    open_taking(other)
    other.set_input_files("#opened input[type=file]", tmp_path / "taken.png")
    until(lambda: "ink 0.6 + oil 1.2" in pictures(other))
    assert all(np.array_equal(one, pictures(page)[name]) for name, one in pictures(other).items())
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    other.set_input_files("#opened input[type=file]", tmp_path / "plain.png")
    other.get_by_text("plain.png has no settings of the desk").wait_for()


def test_a_file_that_is_no_lora_gets_its_sentence_and_a_good_one_its_slider(visit, server, shelf, tmp_path):
    page = visit()
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    page.set_input_files("#dropped input[type=file]", tmp_path / "bad.safetensors")
    said = page.get_by_text(re.compile("bad.safetensors is not a safetensors file"))
    said.wait_for()
    assert "/" not in said.inner_text(), "where the server keeps it is nobody's business"
    assert not (server.runs / "desk").exists()
    page.set_input_files("#dropped input[type=file]", shutil.copy(shelf[0], tmp_path / "wash.safetensors"))
    until(lambda: "ink 0.6 + oil 0.4 + wash 0.5" in pictures(page))
    assert (server.runs / "desk" / "wash.safetensors").read_bytes() == shelf[0].read_bytes()
    assert page.get_by_label("Weight of wash").first.is_visible()
    with page.expect_response(re.compile("/upload")):
        page.set_input_files("#dropped input[type=file]", tmp_path / "wash.safetensors")
    time.sleep(3)  # what the page shows again after a drop is what it showed before
    set_weight(page, 2, 0.7)
    until(lambda: "ink 0.6 + oil 0.4 + wash 0.7" in pictures(page))
    assert page.locator("#loras .token").all_inner_texts() == ["ink", "oil", "wash"], "no LoRA twice"


def test_a_prompt_that_is_pasted_is_drawn_and_one_that_is_deleted_is_missed(visit):
    page = visit()
    page.locator("#prompts textarea").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text("ein Bär & <b>")  # without a key
    until(lambda: page.locator("#sheet img").first.get_attribute("alt") == "base: ein Bär & <b>, seed 3")
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    page.get_by_text("there is nothing to draw").wait_for()


def test_a_click_on_the_map_takes_its_weights_to_mix(visit):
    page = visit()
    page.get_by_role("tab", name="Map").click()
    page.locator("#draw-map").click()
    until(lambda: page.locator("#map button img").count() == 5 and not page.locator("#map .pending").count())
    cell = page.locator("#map button").nth(1)
    assert cell.get_attribute("aria-label") == "ink 0.75 + oil 0.25: take it to Mix"
    source = cell.locator("img").get_attribute("src")
    cell.focus()
    page.keyboard.press("Enter")
    shown = until(lambda: pictures(page).get("ink 0.75 + oil 0.25") is not None and pictures(page))
    expected = Image.open(io.BytesIO(base64.b64decode(source.removeprefix(PIXEL))))
    assert np.array_equal(shown["ink 0.75 + oil 0.25"], np.asarray(expected))
    assert page.locator("#weight-0 input[type=number]").input_value() == "0.75"


def test_two_browsers_and_many_moves_end_with_what_each_asked_for_last(visit):
    pages = [visit(), visit("num_inference_steps=2&seeds=[4]")]
    for step in range(1, 21):
        for page, last in zip(pages, (0, 1), strict=True):
            slider = page.locator(f"#weight-{last} input[type=range]")
            slider.evaluate(
                "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', {bubbles: true})) }",
                step / 20,
            )
        time.sleep(0.05)
    for page, name in zip(pages, ("ink 1 + oil 0.4", "ink 0.6 + oil 1"), strict=True):
        until(lambda page=page, name=name: name in pictures(page))
    time.sleep(2)  # no older wish comes after
    assert "ink 1 + oil 0.4" in pictures(pages[0]) and "ink 0.6 + oil 1" in pictures(pages[1])
    assert not np.array_equal(pictures(pages[0])["base"], pictures(pages[1])["base"]), "seeds 3 and 4"


def test_a_file_that_is_deleted_is_said_and_comes_back(visit, shelf, tmp_path):
    page = visit()
    kept = shutil.move(shelf[1], tmp_path / "away.safetensors")
    set_weight(page, 0, 0.3)
    page.get_by_text(re.compile("oil.safetensors is gone; put it back")).wait_for()
    shutil.move(kept, shelf[1])
    set_weight(page, 0, 0.35)
    until(lambda: "ink 0.35 + oil 0.4" in pictures(page))
    assert page.get_by_text(re.compile("is gone")).count() == 0


def test_every_control_says_what_it_is_and_an_address_that_is_none_is_said(visit):
    page = visit(f"seeds={'x'}")
    page.get_by_text(re.compile("the address's seeds")).wait_for()
    page = visit(width=360)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#more").get_by_text("More settings").click()
    names = page.locator("input:visible, textarea:visible").evaluate_all(
        "all => all.map((one) => one.ariaLabel || one.labels?.[0]?.innerText || one.title || '')"
    )
    assert len(names) > 10 and all(name.strip() for name in names), names


def test_a_server_that_was_killed_shows_the_same_after_a_new_start(visit, server):
    page = visit()
    set_weight(page, 0, 1.1)
    before = until(lambda: "ink 1.1 + oil 0.4" in pictures(page) and "1.1" in page.url and pictures(page))
    assert server.kill() == -signal.SIGKILL
    server.start()
    page.reload()
    again = until(lambda: "ink 1.1 + oil 0.4" in pictures(page) and pictures(page))
    assert all(np.array_equal(one, again[name]) for name, one in before.items())


def test_a_page_that_was_open_all_the_while_goes_on_after_a_new_start(visit, server):
    page = visit('num_inference_steps=2&seeds=[3]&adapters=["oil"]&weights=[0.7]')
    until(lambda: "oil 0.7" in pictures(page))
    assert server.kill() == -signal.SIGKILL
    server.start()
    time.sleep(5)  # the page finds the server again
    set_weight(page, 0, 0.9)
    until(lambda: "oil 0.9" in pictures(page))
    assert list(pictures(page)) == ["base", "oil 1", "oil 0.9"]


def test_without_a_lora_it_offers_to_train_some(browser, tmp_path):
    """The offer itself trains as `fit` does, which other tests do."""
    server = Server(["--runs", tmp_path / "runs"])
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/")
    page.get_by_text("There is no LoRA yet").wait_for(timeout=SOON)
    assert page.get_by_label("pixelart").count() == 1
    page.close()
    assert server.kill(signal.SIGINT) in (0, 130)


def test_a_port_that_is_taken_is_said(server, tiny_sd, tmp_path):
    words = ["--base", str(tiny_sd), "--runs", str(tmp_path), "--port", str(server.port)]
    done = subprocess.run([sys.executable, "cli.py", "desk", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().endswith(f"is taken or not to be had; give another, such as --port {server.port + 1}")


def test_the_config_is_yaml_that_people_can_read(visit):
    page = visit()
    open_taking(page)
    config = yaml.safe_load(take(page, "config"))
    assert config["data"]["init_args"]["prompts"] == ["a cat --d 3"]
