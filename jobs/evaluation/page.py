"""index.html: the table, the figures, and the clips of every method side by side."""

import html
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.evaluation.grid import Grid
from jobs.evaluation.summary import MEASURES, number, text
from renderer.files import atomic

FIGURES = {
    "consistency.png": "consistency against stable detail",
    "measures.png": "every method, measure by measure",
    "cost.png": "cost against consistency",
    "frames.png": "over frame number",
}
STYLE = """
:root { color-scheme: light dark; --ink: #22231f; --faint: #77756d; --paper: #faf9f6; --line: #dddbd4; --ours: #c8442c }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e2dc; --faint: #95938b; --paper: #191a1d; --line: #34353a; --ours: #ee7a62 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2.5rem auto; padding: 0 2rem }
body { max-width: 100rem }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin-top: 2.5rem }
p, small, figcaption { color: var(--faint); font-weight: normal }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { font-weight: 500; vertical-align: bottom; white-space: normal; min-width: 4.5rem }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--paper) }
tr.ours td { color: var(--ours) }
figure { margin: 0 }
.figures figure { margin: 1rem 0 }
.figures img { max-width: 100%; background: white }
.clips { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: .75rem }
video { width: 100%; display: block; background: #808080 }
"""
SCRIPT = """
// Clips of one row run together, and only where somebody looks.
const watch = new IntersectionObserver(rows => { for (const row of rows) for (const clip of row.target.querySelectorAll("video")) {
  if (row.isIntersecting) { clip.currentTime = 0; clip.play() } else clip.pause() } });
document.querySelectorAll(".clips").forEach(row => watch.observe(row));
"""


def write_page(grid: Grid, summary: Mapping[str, Any]) -> None:
    """index.html in the evaluation's folder; clips and figures are linked from where they lie."""
    facts = f"{summary['clips']} clips; {summary['device']}; {summary['date']}"
    body = [
        f"<h1>Evaluation: {html.escape(grid.preset)}</h1>",
        f"<p>{html.escape(facts)}<br><code>{html.escape(summary['command'])}</code></p>",
        *numbers(summary),
        '<h2>Figures</h2><div class="figures">',
        *(
            f'<figure><img src="{name}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'
            for name, caption in FIGURES.items()
        ),
        "</div>",
        *clips(grid),
    ]
    page = [
        "<!doctype html>",
        '<html lang="en"><meta charset="utf-8">',
        f"<title>Evaluation: {html.escape(grid.preset)}</title>",
    ]
    page += [f"<style>{STYLE}</style>", *body, f"<script>{SCRIPT}</script>", "</html>"]
    with atomic(grid.output / "index.html") as part:
        part.write_text("\n".join(page) + "\n", "utf-8")


def numbers(summary: Mapping[str, Any]) -> Iterator[str]:
    """The table of medians; the best of a column is bold, and quartiles and pairs are in what a cell shows when pointed at."""
    methods = summary["methods"]
    yield '<div class="wide"><table><thead><tr><th>median over clips</th>'
    yield from (
        f"<th>{html.escape(m.title)}{' ↓' if m.better == 'lower' else ' ↑' if m.better else ''}</th>" for m in MEASURES
    )
    yield "</tr></thead><tbody>"
    best = {m.name: top([number(found[m.name]["median"]) for found in methods.values()], m.better) for m in MEASURES}
    for method, found in methods.items():
        yield f'<tr class="{"ours" if method == "generative_rendering" else ""}"><td>{html.escape(method.replace("_", " "))}</td>'
        for m in MEASURES:
            value = number(found[m.name]["median"])
            shown = text(value, m.digits)
            yield f'<td title="{html.escape(pointed(found[m.name], m.digits, summary["baseline"]))}">'
            yield f"<b>{shown}</b></td>" if value == best[m.name] else f"{shown}</td>"
        yield "</tr>"
    yield "</tbody></table></div>"


def top(values: list[float], better: str) -> float | None:
    known = [value for value in values if value == value]
    return (min(known) if better == "lower" else max(known)) if known and better else None


def pointed(found: Mapping[str, Any], digits: int, baseline: str) -> str:
    """What there is to know of a cell beside its median."""
    spread = f"quartiles {text(number(found['q1']), digits)} to {text(number(found['q3']), digits)}, {found['n']} clips"
    if "difference" not in found:
        return spread
    low, middle, high = (text(number(found["difference"][key]), digits) for key in ("low", "median", "high"))
    return (
        f"{spread}; minus {baseline}: {middle} ({low} to {high}), p = {number(found['p']):.2g}, {found['pairs']} pairs"
    )


def clips(grid: Grid) -> Iterator[str]:
    """A row of videos for each scene, prompt and seed: all methods, in the order of the table."""
    yield "<h2>Clips</h2>"
    rows: dict[tuple[str, str, int], list[tuple[str, str]]] = {}
    for clip in grid.clips():
        rows.setdefault((clip.scene, clip.prompt, clip.seed), []).append((clip.method, clip.name))
    for (scene, prompt, seed), row in rows.items():
        yield f"<h3>{html.escape(prompt)} <small>{html.escape(scene)}, seed {seed}</small></h3>"
        yield '<div class="clips">'
        for method, name in row:
            source = f'src="clips/{name}/video.mp4" poster="clips/{name}/frames/00000.png"'
            yield f'<figure><video {source} muted loop playsinline preload="none"></video>'
            yield f"<figcaption>{html.escape(method.replace('_', ' '))}</figcaption></figure>"
        yield "</div>"
