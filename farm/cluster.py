"""A Ray cluster that somebody else runs: joining it, bringing our code, and asking its nodes whether they can take part."""

import os
import tempfile
from pathlib import Path
from typing import Any

from farm.config import FarmConfig, one_line, parse_runtime_env
from renderer.config import SceneConfig
from renderer.errors import ConfigError, UserError
from renderer.load import content_hash
from renderer.manifest import Manifest, versions
from renderer.model import ModelSpec, weights_hash
from renderer.plan import Plan


def join(farm: FarmConfig, environment: dict[str, str], options: dict[str, Any]) -> None:
    """Join the cluster at farm.address. Its nodes need Ray and our dependencies; `farm` and `renderer` come with the job.

    environment: variables of the workers. options: of ray.init. Raises ConfigError where no cluster answers or it wants another
    Ray.
    """
    import ray
    from ray.exceptions import RayError

    code = Path(__file__).parents[1]
    asked = parse_runtime_env(farm.runtime_env or "{}")
    runtime_env = {
        **asked,
        "env_vars": environment | asked.get("env_vars", {}),
        "py_modules": [str(code / "farm"), str(code / "renderer")],
    }
    address = farm.address or "auto"
    try:
        ray.init(address, runtime_env=runtime_env, **options)
    except ConnectionError as error:
        raise ConfigError(
            f"farm=cluster: no Ray cluster answers at {address}; expected one of which this machine is a node (`ray start`), its "
            "token in ~/.ray/auth_token, and ray.address=HOST:PORT; elsewhere use `ray job submit` (docs/cluster.md) or farm=local"
        ) from error
    except (RuntimeError, ValueError, TypeError, RayError) as error:  # another Ray, a runtime_env that cannot be
        raise ConfigError(f"farm=cluster: the cluster at {address} cannot be joined: {one_line(error)}") from error


def present_token() -> None:
    """Have Ray, when it is first imported, present the token that lies where it looks for one. By itself it does so only where it
    finds the cluster by itself."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    if named or (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")


def gpus() -> list[str]:
    """Model names of all GPUs of the cluster, as Ray labels its nodes."""
    from ray.util.accelerators import accelerators

    kinds = {value for name, value in vars(accelerators).items() if name.startswith("NVIDIA")}
    names: list[str] = []
    for node in nodes():
        resources = node["Resources"]
        kind = next((k for k in kinds if f"accelerator_type:{k}" in resources), "GPU")
        names += [kind] * int(resources.get("GPU", 0))
    return names


def nodes() -> list[dict[str, Any]]:
    """The nodes that are up and can compute, as Ray describes them; a head with --num-cpus=0 is none."""
    import ray

    return [node for node in ray.nodes() if node["Alive"] and {"CPU", "GPU"} & set(node["Resources"])]


def cpus() -> int:
    import ray

    return int(ray.cluster_resources().get("CPU", 1))


def check_nodes(plan: Plan, manifest: Manifest, folder: Path, patience: float) -> None:
    """Ask every node for what this render needs, before anything starts.

    manifest: with this process's versions and hashes, which are to be the nodes' too. folder: of the output. patience: seconds,
    in which a node installs its runtime_env, too. Raises ConfigError.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError, RuntimeEnvSetupError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes()}
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".shared-") as marker:
        ask: Any = ray.remote(num_cpus=0, max_retries=0)(look)
        asked = {
            node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
                plan.config.scene, plan.spec, Path(marker.name)
            )
            for node in there
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=patience)
        for node, answer in asked.items():
            try:
                found = ray.get(answer, timeout=0)
            except GetTimeoutError:
                problem = f"has not answered in farm.patience={patience:g} seconds"
            except RayTaskError as error:
                if not isinstance(error.cause, (UserError, ImportError)):
                    raise
                problem = str(error.cause)
            except RuntimeEnvSetupError as error:  # pip's words, or a traceback
                problem = f"farm.runtime_env cannot be set up there: {str(error).strip().splitlines()[-1]}"
            except RayError as error:  # the node has gone
                problem = one_line(error)
            else:
                problem = differences(found, manifest)
            if problem:
                raise ConfigError(f"farm=cluster: node {there[node]}: {problem}")


def look(scene: SceneConfig, spec: ModelSpec, marker: Path) -> dict[str, Any]:
    """What a node finds there; runs on it. marker: a file in the output folder, which all machines are to share."""
    try:
        tempfile.TemporaryFile(dir=marker.parent).close()
        shared = marker.exists()
    except OSError:
        shared = False
    if not shared:
        raise ConfigError(
            f"output={marker.parent} cannot be seen and written there; expected a folder that all machines share"
        )
    return {"versions": versions(), "scene": content_hash(scene), "weights": weights_hash(spec)}


def differences(found: dict[str, Any], manifest: Manifest) -> str:
    """How a node differs from this process in what the pixels depend on; nothing where it does not.

    What follows a + in a version is how the same release was built.
    """
    for package, wanted in manifest.versions.items():
        has = found["versions"][package]
        if package not in ("python", "ray") and (has or "").partition("+")[0] != (wanted or "").partition("+")[0]:
            return f"has {package} {has}, and here is {wanted}; expected the same, or the pixels would differ"
    for what in ("scene", "weights"):
        if found[what] != manifest.constants[what]:
            return f"has other files for the {what} under the same name; expected the same on all machines"
    return ""
