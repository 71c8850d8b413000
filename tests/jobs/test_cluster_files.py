"""What jobs/cluster and docs/cluster.md tell others to run is what our command line takes, and Ray its cluster."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from farm.command import configure, renders
from farm.config import validate

ROOT = Path(__file__).parents[2]
FILES = ROOT / "jobs" / "cluster"


def submissions(command):
    """The configurations that a shell command line with farm/submit.py in it asks for."""
    words = shlex.split(command)
    start = next(i for i, word in enumerate(words) if word.endswith("farm/submit.py"))
    given = words[start + 1 :]
    configs = [configure(job) for job in renders([word for word in given if word != "-m"], "-m" in given)]
    for config in configs:
        validate(config)
    return configs


def test_the_cluster_is_one_for_ray():
    config = yaml.safe_load((FILES / "ray.yaml").read_text())
    validate_config(prepare_config(config))
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in command for command in starts if "ray start" in command)


def test_the_rayjob_renders_on_its_cluster():
    job = yaml.safe_load((FILES / "rayjob.yaml").read_text())
    configs = submissions(job["spec"]["entrypoint"])
    assert [config.prompt for config in configs] == ["a golden statue in a snowy forest", "a lava golem"]
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    (workers,) = cluster["workerGroupSpecs"]
    assert all(config.farm.name == "cluster" and config.farm.workers == workers["replicas"] for config in configs)
    (container,) = workers["template"]["spec"]["containers"]
    assert container["volumeMounts"][0]["mountPath"] == str(Path(configs[0].output.dir).parent)


@pytest.mark.parametrize("page", [ROOT / "docs" / "cluster.md", FILES / "README.md"], ids=lambda page: page.name)
def test_every_command_in_the_docs_is_one(page):
    text = page.read_text().replace("\\\n", " ")
    commands = re.findall(r"^    (.*farm/submit\.py.*)$", text, re.MULTILINE)
    assert commands
    for command in commands:
        assert all(config.farm.name == "cluster" for config in submissions(command))
