"""The page of clips, in a browser: what it shows, sorting, filters, two clips under one slider, news while one looks."""

import itertools
import json
import os
import re
import shutil
import time
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest

from farm import overview, records
from farm import page as page_module
from farm.overview import Status, look
from farm.page import Page, describe, is_ours
from renderer.files import write_json
from renderer.video import write_mp4, write_png

FRAMES, FPS = 8, 8.0
PROMPTS = ("a tin toy", "a paper toy", "</script><b>bold</b> & 'quoted' <!-- toy", "a golden statue")


def row(below, name, state, prompt="a toy", **values):
    known = {
        "name": name,
        "state": state,
        "prompt": prompt,
        "scene": "flag",
        "seed": 0,
        "method": "paper",
        "frames": FRAMES,
    }
    known |= {"fps": FPS, "resolution": [64, 64], "steps": 4, "folder": str(below / name)}
    return dict.fromkeys(records.SCHEMA.names) | known | values


def clip(path, shade, frames=FRAMES, size=64):
    """A picture that grows brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.linspace(shade, 255, frames).astype(np.uint8)
    write_mp4(path, [np.full((size, size, 3), level, np.uint8) for level in levels], FPS)


def complete(folder, name, shade, **values):
    clip(folder / name / "video.mp4", shade)
    clip(folder / name / "texture.mp4", shade)
    write_png(folder / name / "frames" / "00000.png", np.full((64, 64, 3), shade, np.uint8))
    return row(folder, name, "complete", **values)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with playwright.sync_playwright() as tool:
        path = found or tool.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("no Chromium: install it, or run `playwright install chromium`")
        chromium = tool.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """visit(folder) → its page, opened from disk; an error on its console fails the test."""
    errors, opened = [], []

    def visit(folder, width=1200, height=800, **options):
        tab = browser.new_page(viewport={"width": width, "height": height}, **options)
        tab.set_default_timeout(10_000)
        tab.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto((folder / "index.html").as_uri())
        opened.append(tab)
        return tab

    yield visit
    for tab in opened:
        tab.close()
    assert errors == []


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Four complete renders, one at work with a preview, one failed, one that waits: at rest on disk."""
    folder = tmp_path_factory.mktemp("a sweep #1 at 50%")
    rows = [
        complete(folder, f"toy {i}#?", 40 * i, prompt=prompt, seed=i, scene=("flag", "fish")[i % 2], uv_mse=error)
        for i, (prompt, error) in enumerate(zip(PROMPTS, (0.03, 0.2, 0.0004, None), strict=True))
    ]
    write_json(folder / "busy" / "status.json", vars(Status(phase="denoising", step=3, steps=4, frames=FRAMES)))
    clip(folder / "busy" / ".work" / "preview.mp4", 90)
    rows.append(row(folder, "busy", "rendering", seed=4))
    (folder / "bad").mkdir()
    (folder / "bad" / "error.log").write_text("Traceback:\n  it went wrong <here>\n")
    rows.append(row(folder, "bad", "failed", seed=5, error="no luck with chunk 1"))
    rows.append(row(folder, "late", "waiting", seed=6, folder=None))
    Page(folder, lambda: rows).write(live=False)
    return folder


def names(tab):
    return tab.evaluate("[...document.querySelectorAll('#grid > .card')].map(card => card.card.entry.name)")


def wait_for(tab, condition):
    tab.wait_for_function(condition, timeout=10_000)


def test_shows_every_render(sweep, visit):
    tab = visit(sweep)
    assert names(tab) == [f"toy {i}#?" for i in range(4)] + ["busy", "bad", "late"]
    assert tab.title() == sweep.name
    titles = tab.locator(".card h2").all_text_contents()
    assert titles[:4] == list(PROMPTS)
    assert tab.locator("h2 b").count() == 0  # a prompt is text, whatever it looks like
    cards = tab.locator(".card")
    assert "flag · seed 0" in cards.nth(0).inner_text()
    assert "no luck with chunk 1" in cards.nth(5).inner_text()
    assert "waiting" not in tab.locator("#news").inner_text()
    assert "4 of 7 complete" in tab.locator("#news").inner_text()
    assert "1 failed" in tab.locator("#news").inner_text()
    wait_for(tab, "document.querySelectorAll('.card video')[0].currentTime > 0.2")  # it plays
    assert tab.locator(".card .tag:visible").all_text_contents() == ["preview"]


def test_sorts_with_what_is_missing_last(sweep, visit):
    tab = visit(sweep)
    tab.select_option("#sort", "m.uv_mse")
    assert names(tab)[:3] == ["toy 2#?", "toy 0#?", "toy 1#?"]
    tab.click("#direction")
    assert names(tab)[:3] == ["toy 1#?", "toy 0#?", "toy 2#?"]
    tab.reload()  # what was chosen is in the address
    assert names(tab)[:3] == ["toy 1#?", "toy 0#?", "toy 2#?"]
    assert tab.input_value("#sort") == "m.uv_mse"


def test_filters(sweep, visit):
    tab = visit(sweep)
    tab.fill("#search", "TOY tin")
    assert names(tab) == ["toy 0#?"]
    tab.fill("#search", "no luck")
    assert names(tab) == ["bad"]
    tab.fill("#search", "")
    tab.select_option("#facets [data-key=scene]", "fish")
    assert names(tab) == ["toy 1#?", "toy 3#?"]
    tab.get_by_text("failed 1").click()
    assert names(tab) == []
    tab.get_by_role("button", name="Show all").click()
    assert len(names(tab)) == 7


def test_two_clips_under_one_slider(sweep, visit):
    tab = visit(sweep)
    for number in (1, 3):
        tab.locator(".pick input").nth(number).check(force=True)
    tab.get_by_role("button", name="Compare").click()
    wait_for(tab, "[...document.querySelectorAll('#viewer video')].length === 4")  # two clips, two textures
    wait_for(tab, "[...document.querySelectorAll('#viewer video')].every(v => v.readyState > 2 && v.currentTime > .2)")
    times = tab.evaluate("[...document.querySelectorAll('#viewer video')].map(v => v.currentTime)")
    assert max(times) - min(times) < 2 / FPS
    tab.fill("#time", "5")
    wait_for(tab, "[...document.querySelectorAll('#viewer video')].every(v => v.paused && !v.seeking)")
    times = tab.evaluate("[...document.querySelectorAll('#viewer video')].map(v => v.currentTime)")
    assert [int(seconds * FPS) for seconds in times] == [5] * 4
    tab.keyboard.press("ArrowRight")
    wait_for(tab, "document.querySelector('#frame').textContent === '7 of 8'")
    assert tab.locator("#time").get_attribute("aria-valuetext") == "frame 7 of 8"
    assert {"prompt", "seed", "UV MSE"} <= set(tab.locator("#facts .differs th").all_text_contents())
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()
    wait_for(tab, "document.querySelectorAll('.card video')[0].currentTime > 0")  # the grid goes on


def test_one_render_large(sweep, visit):
    tab = visit(sweep)
    tab.get_by_role("button", name=re.compile("Open a golden statue")).click()
    assert tab.locator("#viewer figcaption").all_text_contents() == ["clip", "texture, unwrapped"]
    tab.click("#next")
    tab.click("#next")
    assert "it went wrong <here>" in tab.locator("#viewer pre").inner_text()
    link = tab.locator(".links a", has_text="error.log").get_attribute("href")
    assert (sweep / unquote(link)).read_text().startswith("Traceback")


@pytest.mark.parametrize("width", [360, 800, 2000])
def test_fits_every_screen(sweep, visit, width):
    tab = visit(sweep, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    boxes = [box.bounding_box() for box in tab.locator(".card").all()]
    for a, b in itertools.pairwise(boxes):  # side by side or one below the other, never over each other
        assert a["x"] + a["width"] <= b["x"] or a["y"] + a["height"] <= b["y"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_can_be_read(sweep, visit, scheme):
    """Contrast of text as WCAG 2.2 wants it, and a name for every control."""
    tab = visit(sweep, color_scheme=scheme)
    ratios = tab.evaluate("""() => {
        const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
        const light = colour => {
            canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3)
                .map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const paper = light(getComputedStyle(document.documentElement).backgroundColor);
        return ['h1', '#news', '.card h2', '.card .quiet', '.still.bad', '.numbers dt'].map(selector => {
            const ink = light(getComputedStyle(document.querySelector(selector)).color);
            return (Math.max(ink, paper) + .05) / (Math.min(ink, paper) + .05);
        });
    }""")
    assert min(ratios) >= 4.5
    for control in tab.locator("button:visible, input:visible, select:visible").all():
        label = control.evaluate("c => c.getAttribute('aria-label') || c.textContent || c.labels?.[0]?.textContent")
        assert label.strip()


def test_news_while_one_looks(tmp_path, visit):
    """A render ends and another fails while the page is open: it stays where it was, with what was chosen."""
    rows = [complete(tmp_path, f"{i}", 10 * i, seed=i, prompt=f"toy {i}") for i in range(12)]
    rows[1] = row(tmp_path, "1", "rendering", prompt="toy 1", seed=1)
    page = Page(tmp_path, lambda: rows)
    page.write(live=True)
    tab = visit(tmp_path, height=400)
    tab.fill("#search", "toy")
    tab.select_option("#sort", "name")
    tab.click("#direction")
    assert names(tab)[0] == "11"
    tab.evaluate("scrollTo(0, 300)")
    tab.evaluate("document.querySelector('.card').marked = 1")
    rows[1] = complete(tmp_path, "1", 200, seed=1, prompt="toy 1")
    rows[2] = row(tmp_path, "2", "failed", prompt="toy 2", seed=2, error="out of tin")
    page.write(live=False)
    wait_for(tab, "document.querySelector('#news').textContent.includes('1 failed')")
    assert tab.evaluate("scrollY") == 300
    assert (tab.input_value("#search"), tab.input_value("#sort"), names(tab)[0]) == ("toy", "name", "11")
    assert tab.evaluate("document.querySelector('.card').marked") == 1
    assert "out of tin" in tab.locator(".card", has_text="toy 2").text_content()
    # At rest it asks no more.
    (tmp_path / "index.js").write_text("document.title = 'asked again'")
    time.sleep(2.5)
    assert tab.title() == tmp_path.name


def test_says_when_nobody_renders_any_more(tmp_path, visit, monkeypatch):
    rows = [row(tmp_path, "1", "rendering"), row(tmp_path, "2", "waiting")]
    monkeypatch.setattr(page_module.time, "time", lambda now=time.time: now() - 120)
    Page(tmp_path, lambda: rows).write(live=True)
    assert "No news for 2 min" in visit(tmp_path).locator("#stale").inner_text()


def test_five_hundred(tmp_path, visit):
    """Only what is near the screen is loaded, and sorting takes no time that one notices."""
    first = complete(tmp_path, "0", 99)
    rows = [
        first | {"name": str(i), "seed": i, "prompt": f"toy {i}", "uv_mse": (i * 7919) % 500 / 500} for i in range(500)
    ]
    page = Page(tmp_path, lambda: rows)
    page.write(live=False)
    assert (tmp_path / "index.html").stat().st_size < 600_000
    tab = visit(tmp_path)
    assert len(names(tab)) == 500
    wait_for(tab, "document.querySelector('.card video').currentTime > 0")
    loaded = "document.querySelectorAll('.card video[src]').length"
    assert 0 < tab.evaluate(loaded) < 60
    tab.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
    wait_for(tab, "!document.querySelector('.card video').hasAttribute('src')")
    assert 0 < tab.evaluate(loaded) < 60
    took = tab.evaluate("""() => {
        const begun = performance.now(), select = document.querySelector('#sort');
        select.value = 'm.uv_mse'; select.onchange({target: select}); document.body.offsetHeight;
        return performance.now() - begun;
    }""")
    assert took < 2000  # 60 ms on a quiet machine
    assert names(tab)[:2] == ["0", "179"]


def test_one_render_is_a_page_too(tmp_path, visit):
    folder = tmp_path / "alone"
    known = complete(tmp_path, "alone", 30)
    Page(folder, lambda: [known]).write(live=False)
    tab = visit(folder)
    assert tab.locator("#viewer video").count() == 2
    assert not tab.locator("nav").is_visible()
    wait_for(tab, "document.querySelector('#viewer video').currentTime > .2")


def test_is_written_whole_while_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(page_module, "INTERVAL", 0.01)
    rows = [row(tmp_path, str(i), "waiting") for i in range(20)]
    page = Page(tmp_path, lambda: rows)
    page.start()
    end = time.monotonic() + 0.5
    while not (tmp_path / "index.html").exists():
        time.sleep(0.01)
    while time.monotonic() < end:
        text = (tmp_path / "index.html").read_text("utf-8")
        data = json.loads(re.search(r'id="data">(.*)</script>', text)[1])
        assert data["live"] is True
        assert len(data["renders"]) == 20
    page.close()
    assert '"live":false' in (tmp_path / "index.html").read_text("utf-8")
    assert "stopped" in (tmp_path / "index.js").read_text("utf-8")  # what waits is waited for no longer
    assert not list(tmp_path.glob(".*"))


def test_a_page_of_somebody_else_stays(tmp_path):
    (tmp_path / "index.html").write_text("<h1>My homepage</h1>")
    page = Page(tmp_path, lambda: [row(tmp_path, "1", "waiting")])
    page.start()
    page.close()
    assert os.listdir(tmp_path) == ["index.html"]
    (tmp_path / "index.html").unlink()
    page.write(live=False)
    assert is_ours(tmp_path / "index.html")


def test_what_a_render_does_not_know_yet_is_no_difference(tmp_path):
    """Steps and size that are left to the model stand in a row once the render has begun."""
    begun = row(
        tmp_path,
        "1",
        "rendering",
        guidance=3.0,
        seed=1,
        render_hash="x",
        **{"scene.clip": None, "model.dtype": "float32"},
    )
    waits = row(
        tmp_path, "2", "waiting", steps=None, resolution=None, seed=2, **{"scene.clip": "Walk", "model.dtype": "auto"}
    )
    entries = [look(begun), look(waits)]
    common = page_module.shared([(entry, describe(entry, tmp_path)) for entry in entries])
    assert (common["guidance"], common["steps"], common["model.dtype"]) == (3.0, 4, "float32")
    assert not {"seed", "scene.clip"} & common.keys()
    assert overview.totals([look(begun | {"state": "complete"}), look(waits)]).share == 0.5


def test_links_lead_to_files(tmp_path):
    """From a page in another folder, and with names that an address cannot hold as they are."""
    name = "50% #1 ä?"
    known = complete(tmp_path / "renders", name, 9)
    (tmp_path / "pages").mkdir()
    found = describe(look(known), tmp_path / "pages")
    for link in [found["clip"]["url"], found["texture"]["url"], found["poster"], *found["files"].values()]:
        assert (tmp_path / "pages" / unquote(link)).exists()
        assert not set(link) & set("#? ")
