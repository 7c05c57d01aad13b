"""Table 3 of the paper at a size that two CPU cores can do.

Trains every variant with every seed on generated streets, measures it on held-out ones, and prints one
Markdown table: mean over the seeds ± half of the range. Runs that are complete are not repeated, and an
interrupted one goes on.

    python benchmarks/ablation.py --steps 400 --seeds 0 1 --output runs/ablation

Eight classes (ablation_taxonomy.yaml): in minutes, the rare ones of Cityscapes' nineteen are not learnt.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from rt_panoptic_core.errors import PanopticError
from rt_panoptic_core.files import write_json
from rt_panoptic_core.training.configuration import load_config
from rt_panoptic_core.training.run import train

TAXONOMY = Path(__file__).with_name("ablation_taxonomy.yaml")
BASE = Path(__file__).parents[1] / "config" / "train" / "small_street.yaml"

# Rows of table 3 in its order: name, what differs from the full method.
VARIANTS: dict[str, list[str]] = {
    "one tower": ["network.two_towers=false", "network.levelness=false", "losses.mask=0"],
    "two towers": ["network.levelness=false", "losses.mask=0"],
    "+ levelness": ["losses.mask=0"],
    "+ mask loss": [],
    "weakly supervised": ["losses.supervision=boxes", "losses.mask=0"],
}
MEASURES = ("pq", "pq_things", "pq_stuff", "miou")


def run_variant(name: str, seed: int, args: argparse.Namespace) -> dict[str, float]:
    """Measures in [0, 1] of one variant trained with one seed."""
    folder = Path(args.output) / f"{name.replace(' ', '_').replace('+_', '')}_{seed}"
    done = folder / "measures.json"
    if done.is_file():
        stored: dict[str, float] = json.loads(done.read_text(encoding="utf-8"))
        return stored
    config = load_config(
        args.config,
        [
            *VARIANTS[name],
            *args.set,
            f"taxonomy={TAXONOMY}",
            f"seed={seed}",
            f"output={folder}",
            f"optimization.steps={args.steps}",
            "evaluation.every=0",
            "evaluation.pictures=0",
        ],
    )
    result = train(config, progress=False, accelerator=args.accelerator, devices=1)
    measures = next(iter(result.measures.values()))
    write_json(done, measures)
    return measures


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Markdown table of mean and half range in percent."""
    lines = ["| variant | PQ | PQ things | PQ stuff | mIoU | seeds |", "|---|---|---|---|---|---|"]
    for name, runs in results.items():
        cells = []
        for measure in MEASURES:
            values = [100 * run[measure] for run in runs]
            spread = (max(values) - min(values)) / 2
            cells.append(f"{statistics.fmean(values):.1f} ± {spread:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


def main() -> int:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", default=str(BASE), help="the full method, as a training YAML")
    parser.add_argument("--output", default="runs/ablation")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE")
    parser.add_argument("--accelerator", default="auto", choices=("auto", "cpu", "gpu"))
    args = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {}
    # Seed by seed: an interrupted comparison has whole columns and not half a table.
    for seed in args.seeds:
        for name in args.variants:
            try:
                measures = run_variant(name, seed, args)
            except PanopticError as error:
                print(f"{name}, seed {seed}: {error}", file=sys.stderr)
                return 1
            results.setdefault(name, []).append(measures)
            print(f"{name}, seed {seed}: PQ {100 * measures['pq']:.1f}", file=sys.stderr)
    print(table({name: results[name] for name in args.variants}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
