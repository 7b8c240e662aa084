"""The desk's offer to train a style, in a browser: to its end, though the page is closed; it stops with the desk."""

import json
import signal

import pytest

from stylelora.runs.folder import adapter_file
from tests.browsing import IN_BROWSER, Server, browse, until
from tests.faults.test_signals_devices import alive

pytestmark = IN_BROWSER
browser = pytest.fixture(browse, scope="module")
LONG = 600  # seconds


@pytest.fixture
def server(tmp_path):
    server = Server(["--runs", tmp_path])
    yield server
    server.kill()


@pytest.fixture
def train(browser, server, tmp_path):
    """Return what opens a page, trains watercolor there until it has a checkpoint, and returns page and folder."""
    folder = tmp_path / "train" / "mini" / "watercolor"

    def trained():
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.port}")
        page.get_by_label("cartoon").uncheck()
        page.get_by_role("button", name="Train").click()
        until(lambda: any((folder / "checkpoints").glob("*.ckpt")), LONG)
        return page, folder

    return trained


def test_a_training_stops_with_the_desk_and_saves_its_state(train, server):
    _, folder = train()
    server.kill(signal.SIGTERM)
    assert json.loads((folder / "result.json").read_text())["status"] == "cancelled"
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert not alive(folder)


def test_a_page_that_is_opened_again_waits_for_the_training_that_goes_on(train):
    page, folder = train()
    page.close()
    page, _ = train()
    page.locator("#train").wait_for(state="hidden", timeout=LONG * 1000)
    assert json.loads((folder / "result.json").read_text())["status"] == "success"
    assert adapter_file(folder).is_file()
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1, "it was trained once"
    assert [one.name for one in folder.parent.iterdir() if one.is_dir()] == ["watercolor"]
    assert page.get_by_text("watercolor").first.is_visible()
