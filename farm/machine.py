"""What there is to compute on, and starting and ending Ray on it."""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farm import cluster
from farm.config import FarmConfig, SubmitConfig
from renderer.cache import SHARED
from renderer.errors import ConfigError
from renderer.heap import give_memory_back


@dataclass(frozen=True)
class Machine:
    """device: cpu | cuda. name: of the processor or GPU model, as the pixels depend on it. workers: how many to start."""

    device: str
    name: str
    workers: int


def find_machine(config: SubmitConfig) -> Machine:
    """What a submission will run on. Joins the cluster where it runs on one; else nothing heavy is imported, and
    the Ray that may follow keeps to this machine."""
    farm, wanted = config.farm, config.model.device
    if farm.name == "cluster":
        start_ray(farm)
        gpus, cpus = cluster.gpus(), cluster.cpus()
    else:
        gpus, cpus = local_gpus(), os.cpu_count() or 1
        if farm.name == "local" and "ray" not in sys.modules:
            # Read when Ray is first imported: all of it then listens on the loopback interface alone, as it does on desktops.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if wanted == "cuda" and not gpus:
        raise ConfigError("model.device=cuda: there is no CUDA GPU here; use model.device=cpu or auto")
    if gpus and wanted != "cpu":
        if len(set(gpus)) > 1:
            raise ConfigError(
                f"the GPUs differ ({', '.join(sorted(set(gpus)))}), and so would the pixels; choose one kind"
            )
        return Machine("cuda", gpus[0], min(farm.workers or len(gpus), len(gpus)))
    return Machine("cpu", cpu_name(), farm.workers or max(1, cpus // farm.threads))


def local_gpus() -> list[str]:
    """Model names of the NVIDIA GPUs that this process may use, found without loading CUDA."""
    folders = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    names = [
        match[1] for path in folders if (match := re.search(r"^Model:\s*(.+?)\s*$", path.read_text(), re.MULTILINE))
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return names if visible is None else names[: len([word for word in visible.split(",") if word.strip()])]


def cpu_name() -> str:
    """The processor's model name."""
    try:
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    return match[1].strip() if match else "CPU"


def cluster_workers(farm: FarmConfig, machine: Machine) -> int:
    """How many workers of this kind the whole cluster has room for."""
    return len(cluster.gpus()) if machine.device == "cuda" else max(1, cluster.cpus() // farm.threads)


def start_ray(farm: FarmConfig) -> None:
    """Start Ray on this machine, or join a running cluster; nothing happens where that is done already."""
    # The render tells torch its number of threads, as it shows in the pixels; nothing else should start any. What Ray starts on
    # this machine inherits that.
    environment = {"OMP_NUM_THREADS": "1"}
    if SHARED in os.environ:
        environment[SHARED] = os.environ[SHARED]
    os.environ |= environment
    if farm.name == "cluster":
        cluster.present_token()
    give_memory_back()
    import ray

    if ray.is_initialized():
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if farm.name == "cluster":
        cluster.join(farm, environment, options)
    else:
        cpus = max(os.cpu_count() or 1, farm.threads * (farm.workers or 1))
        # Reports of every call, several a second, are for the dashboard, which there is none of.
        quiet = {"task_events_report_interval_ms": 0}
        ray.init(address="local", num_cpus=cpus, include_dashboard=False, _system_config=quiet, **options)


def stop_ray() -> None:
    """End or leave Ray."""
    import ray

    ray.shutdown()
