"""How the folders depend on each other, and that documented examples run."""

import ast
import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(folder):
    """Dotted names of all Python modules below a folder of the checkout."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]


RENDERER = modules("renderer")


def loaded_by(names, *asked):
    """Which of the asked top-level packages a fresh process holds after importing the named modules."""
    code = "import importlib, sys\n" + "".join(f"importlib.import_module({name!r})\n" for name in names)
    code += f"print(*[name for name in {asked!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_renderer_never_imports_ray():
    assert "renderer.render" in RENDERER
    assert loaded_by(RENDERER, "ray", "farm", "jobs", "hydra", "torch") == ["torch"]


def test_nor_does_any_line_of_it_that_runs_later():
    for name in RENDERER:
        path = ROOT / (name.replace(".", "/") + ".py")
        path = path if path.exists() else ROOT / name.replace(".", "/") / "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {imported.split(".")[0] for imported in names} & {"ray", "farm", "jobs", "hydra"}, name


def test_planning_and_errors_import_nothing_heavy():
    """A scene, a camera, a model's sizes and every error message come without torch."""
    light = [
        "plan",
        "load",
        "camera",
        "model",
        "manifest",
        "errors",
        "config",
        "gbuffer",
        "atlas",
        "noise",
    ]
    heavy = ("torch", "diffusers", "transformers", "ray")
    assert loaded_by([f"renderer.{name}" for name in light], *heavy) == []


@pytest.mark.parametrize(
    "name", [name for name in RENDERER if ">>>" in (importlib.util.find_spec(name).loader.get_source(name))]
)
def test_examples_run(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
