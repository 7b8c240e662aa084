"""Section on the mixing desk: from a move of a slider to its picture, in a browser."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.blending import random_adapter
from benchmarks.speed.training import Bench
from stylelora.lora.blend import as_layers
from stylelora.lora.read import START
from stylelora.lora.write import write_lora

ROOT = Path(__file__).resolve().parents[2]
MOVES, UNCOUNTED = 20, 3  # of each of two seeds
#: Moves a slider as a hand does; resolves to the milliseconds until the blend's picture is of that weight.
MOVE = """(value) => new Promise((done) => {
    const slider = document.querySelector('#weight-0 input[type=range]'), sheet = document.querySelector('#sheet');
    const began = performance.now(), watch = new MutationObserver(() => {
        if (![...sheet.querySelectorAll('img')].at(-1)?.alt.includes(`first ${value} `)) return;
        watch.disconnect();
        done(performance.now() - began);
    });
    watch.observe(sheet, {subtree: true, childList: true, attributes: true});
    slider.value = value;
    slider.dispatchEvent(new Event('input', {bubbles: true}));
})"""


def desk(bench: Bench, save: Callable[[Any], None]) -> None:
    """Time moves of a slider: two LoRAs that start as mini's do, one prompt and seed, each blend for the first time."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        files, unet = [], bench.parts.take("unet")
        for name in ("first", "second"):
            adapter = random_adapter(name, unet, bench.settings.rank)
            files.append(f"{folder}/{name}.safetensors")
            write_lora(Path(files[-1]), as_layers(adapter.layers, [adapter]), {"trigger": name, START: "0.2"})
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        words = [sys.executable, "cli.py", "desk", "--adapters", *files, "--runs", folder, "--port", str(port)]
        server = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            next(line for line in server.stdout if "mixing desk is at" in line)
            with sync_playwright() as engine:
                browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                taken = [seconds for seed in (0, 1) for seconds in moves(browser, f"http://127.0.0.1:{port}/", seed)]
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    save({"seconds": taken})


def moves(browser: Any, address: str, seed: int) -> list[float]:
    """Return the seconds that moves of a slider took until their pictures were there, each drawn for the first time."""
    page = browser.new_page()
    page.goto(f'{address}?adapters=["first","second"]&weights=[0.5,0.5]&seeds=[{seed}]')
    page.locator("#sheet img").nth(3).wait_for(timeout=120_000)
    places = [place for place in range(1, MOVES + UNCOUNTED + 2) if place != 10]  # 10 are 0.5, which is there
    taken = [page.evaluate(MOVE, f"{0.05 * place:g}") / 1000 for place in places]
    page.close()
    return taken[UNCOUNTED:]
