"""Ray beyond this process: who can reach what we start, and machines that have neither our checkout nor our files."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from farm.cluster import differences
from farm.command import configure, renders
from farm.config import FarmConfig, parse_runtime_env, validate
from renderer.errors import ConfigError
from renderer.manifest import new_manifest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.xdist_group("ray")
SMALL = ["scene=flag", "prompt=a tin toy", "frames=3", "resolution=64", "steps=2", "farm.workers=2", "farm.threads=1"]

# The command line up to where Ray has started, and then a look at it instead of a render.
LISTEN = """
import os, sys
from farm import submit, workshop

def look(config):
    start(config)
    import psutil, ray  # psutil comes with Ray
    ray.get(ray.remote(lambda: None).remote())
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    found = [c.laddr.ip for process in family for c in process.net_connections("inet") if c.status == "LISTEN"]
    print("listening", *found, os.environ["RAY_AUTH_MODE"])
    sys.exit(0)

start, workshop.start_ray = workshop.start_ray, look
submit.main(sys.argv[1:])
"""


def test_a_local_farm_listens_on_the_loopback_interface_alone_and_wants_a_token(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", LISTEN, *SMALL, f"output={tmp_path / 'out'}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    _, *addresses, mode = next(line for line in done.stdout.splitlines() if line.startswith("listening")).split()
    assert len(addresses) > 3
    assert {address.removeprefix("::ffff:") for address in addresses} <= {"127.0.0.1", "::1"}
    assert mode == "token"


def test_a_runtime_env_is_typed_in_place_or_a_file(tmp_path):
    text = '{pip: ["av>=14", trimesh], env_vars: {HF_HOME: "/models, ours"}}'
    (tmp_path / "env.yaml").write_text(text)
    for value in (text, str(tmp_path / "env.yaml")):
        (job,) = renders(["ray.address=auto", f"ray.runtime_env={value}"], sweep=True)
        config = configure(job)
        validate(config)
        found = parse_runtime_env(str(config.farm.runtime_env))
        assert found == {"pip": ["av>=14", "trimesh"], "env_vars": {"HF_HOME": "/models, ours"}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("missing.yaml", "No such file"),
        ("{pip: [a", "expected"),
        ("{pips: [a]}", "did you mean pip"),
        ("{working_dir: .}", "expected one of pip"),
        ("{env_vars: {N: 1}}", "numbers in quotes"),
        ("{env_vars: [N]}", "NAME: text"),
    ],
)
def test_a_mistake_in_a_runtime_env_is_one_line(text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_runtime_env(text)
    assert "\n" not in str(caught.value)


def test_a_runtime_env_belongs_to_a_cluster():
    with pytest.raises(ConfigError, match="expected farm=cluster"):
        validate(configure(renders(["farm.runtime_env={pip: [a]}"])[0]))
    assert FarmConfig().runtime_env is None


def test_nodes_must_have_what_the_pixels_depend_on():
    config = {"prompt": "", "seed": 0}
    manifest = new_manifest(config, {"scene": "a", "weights": "b"}, "CPU", [])
    same = {"versions": dict(manifest.versions), "scene": "a", "weights": "b"}
    assert differences(same, manifest) == ""
    assert (
        differences(same | {"versions": same["versions"] | {"torch": f"{same['versions']['torch']}+x"}}, manifest) == ""
    )
    assert "torch 1.0" in differences(same | {"versions": same["versions"] | {"torch": "1.0"}}, manifest)
    assert "numpy None" in differences(same | {"versions": same["versions"] | {"numpy": None}}, manifest)
    assert "weights" in differences(same | {"weights": "c"}, manifest)


# What is typed on the head; each line's exit code and stderr go to files. SCENE is a file that the nodes share with it.
COMMANDS = """
run() {{ name=$1; shift; {python} {submit} prompt="a tin toy" resolution=64 frames=4 steps=2 chunk=2 farm.threads=1 "$@" \
    >/dev/null 2>{out}/$name.txt; echo $? >>{out}/$name.txt; }}
cd {shared}
unset RAY_AUTH_MODE  # the token is enough
run inline scene=toy.obj output=inline farm=inline
run cluster scene=toy.obj output=cluster ray.address=10.99.0.1:6379 'ray.runtime_env={{env_vars: {{A: b}}}}'
run scene scene={private}/toy.obj output=scene ray.address=10.99.0.1:6379
run output scene=toy.obj output={private}/out ray.address=10.99.0.1:6379
run pip scene=toy.obj output=pip ray.address=10.99.0.1:6379 'ray.runtime_env={{pip: [{private}/no-such-package]}}'
RAY_AUTH_TOKEN=ffffffffffffffffffffffffffffffff run token scene=toy.obj output=token ray.address=10.99.0.1:6379
ls {shared} >{out}/ls.txt
"""


@pytest.mark.long
def test_hosts_that_have_only_ray_and_the_dependencies(tmp_path):
    """Hosts in network and mount namespaces: they see neither the checkout nor, wherever it may be, the installed one."""
    alone = ["unshare", "--map-root-user", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]
    if shutil.which("ip") is None or subprocess.run([*alone, "-c", "true"], capture_output=True).returncode:
        pytest.skip("no network namespaces here")
    shared, private, out = (tmp_path / name for name in ("shared", "private", "out"))
    for folder in (shared, private, out):
        folder.mkdir()
    for folder in (shared, private):
        (folder / "toy.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n")
    submit = ROOT / "farm" / "submit.py"
    script = COMMANDS.format(python=sys.executable, submit=submit, shared=shared, private=private, out=out)
    ask = [sys.executable, "-c", "import farm; print(farm.__path__[0])"]
    elsewhere = Path(subprocess.run(ask, cwd=out, capture_output=True, text=True, check=True).stdout.strip()).parent
    hidden = [str(folder) for root in {ROOT, elsewhere} for folder in (root / "farm", root / "renderer")]
    environment = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as temp:
        hosts = [*alone, ROOT / "tests" / "farm" / "hosts.sh", temp, *hidden, private, "--", "sh", "-c", script]
        subprocess.run(hosts, env=environment, check=True, timeout=400)
    said = {path.stem: path.read_text().splitlines() for path in out.iterdir()}
    assert said["inline"][-1] == said["cluster"][-1] == "0", said["cluster"]
    manifests = [json.loads((shared / name / "manifest.json").read_text()) for name in ("inline", "cluster")]
    assert manifests[0]["render_hash"] == manifests[1]["render_hash"]
    assert manifests[0]["frames"] == manifests[1]["frames"]
    at_work = set(re.findall(r"10\.99\.0\.\d", (shared / "cluster" / "render.log").read_text()))
    assert at_work  # both, unless one comes up when the other is done already
    assert at_work <= {"10.99.0.2", "10.99.0.3"}
    wrong = {"scene": "toy.obj", "output": "that all machines share", "pip": "farm.runtime_env", "token": "token"}
    for name, word in wrong.items():
        *before, line, code = said[name]
        assert code == "2", said[name]
        assert before == [] or name == "token"  # of which Ray itself has a word to say
        assert line.startswith("error: farm=cluster: ")
        assert word in line
    assert sorted(said["ls"]) == ["cluster", "inline", "toy.obj"]


SCRAPE = """
import sys, time, urllib.request
from pathlib import Path
from farm import gauges, submit
from farm.dispatcher import Farm

def scrape(farm):
    import ray
    gauges.call_ended("predict", (), 0.5, failed=True)
    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    until = time.monotonic() + 60
    while "ray_farm_renders" not in (text := urllib.request.urlopen(address, timeout=10).read().decode()):
        assert time.monotonic() < until
        time.sleep(1)
    time.sleep(11)  # the slowest of Ray's intervals
    Path(sys.argv[1]).write_text(urllib.request.urlopen(address, timeout=10).read().decode())
    close(farm)

close, Farm.close = Farm.close, scrape
sys.exit(submit.main(sys.argv[2:]))
"""


@pytest.mark.long
def test_prometheus_reads_how_the_farm_stands(tmp_path):
    """From the port that Ray's agent opens on each node; it comes with ray[default]."""
    pytest.importorskip("opentelemetry.exporter.prometheus")
    given = [
        "scene=flag",
        "prompt=a tin toy",
        "frames=3",
        "resolution=64",
        "steps=2",
        "farm.workers=2",
        "farm.threads=1",
    ]
    command = [sys.executable, "-c", SCRAPE, tmp_path / "metrics", *given, f"output={tmp_path / 'out'}"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    lines = [line for line in (tmp_path / "metrics").read_text().splitlines() if line.startswith("ray_farm_")]
    values = {line.partition("{")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert values["ray_farm_frames_finished_total"] == 3
    assert values["ray_farm_workers"] == 2
    assert values["ray_farm_calls_failed_total"] == 1
    assert values["ray_farm_feature_bytes"] >= 0
    assert any('method="predict"' in line and line.startswith("ray_farm_call_seconds_count") for line in lines)
    assert [line.endswith(" 1.0") for line in lines if 'state="rendering"' in line] == [True]
