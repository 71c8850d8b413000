"""Every method on the same scenes, prompts and seeds: rendered, measured, compared, shown.

    python jobs/evaluate.py [key=value ...]

    preset=table             what is rendered: see below; or a YAML file of yours, such as those in jobs/evaluation/presets
    methods=a,b              instead of all methods of conf/method, or the preset's
    scenes=a,b               instead of the preset's: names of its scenes, or what scene= takes
    prompts='"a","b"'        instead of the preset's
    seeds=0,1                instead of the preset's
    baseline=paper           the method that the others are compared with, in pairs
    output=renders/evaluate-PRESET    clips, summary.json, table.md, clips.parquet, frames.parquet, plots, index.html
    part=1/1                 i/n: the i-th of n shares of the clips, for several processes or machines; the same
                             command without it then finds all clips rendered and writes the summary
    prepare=0                N: first of all parts, make in N processes what clips of one scene share, and nothing else
    render=true              false: summarise what is there

All other keys are those of farm/submit.py and hold for every clip: model=sd15, frames=48, farm=inline, ...
The same command goes on where it was interrupted. Exit codes: 0; 1 a clip failed; 2 your mistake; 130 interrupted.
"""

import sys
from collections.abc import Sequence

try:
    from farm.submit import FAILED, report
    from jobs.evaluation.grid import parse
    from jobs.evaluation.preset import described
except ModuleNotFoundError as missing:
    sys.exit(f"error: {missing.name} is not installed: run `pip install -e .` in the checkout, or `make demo`")


def main(arguments: Sequence[str]) -> int:
    """Does what the arguments say. Returns the exit code."""
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        print("Presets:", *(f"  {name:<12} {line}" for name, line in described()), sep="\n")
        return 0
    try:
        grid = parse(arguments)
        share = grid.configs(grid.share())
        from jobs.evaluation.run import evaluate  # torch loads here, after every mistake that can be found without it

        return FAILED if evaluate(grid, share) else 0
    except (Exception, KeyboardInterrupt) as error:
        return report(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
