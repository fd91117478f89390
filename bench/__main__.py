"""`python -m bench [NAME…]`: print a table of the figures, each with its bar; keep it as JSON in bench/out/."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import figures
from bench.figures import Figure
from bench.house import LONG, OTHER_CORE, STREAM, TWO_SECONDS, ZERO, House

OUT = Path(__file__).resolve().parent / "out"
WITH_MODELS: dict[str, Callable[[House], list[Figure]]] = {
    "throughput": figures.throughput,
    "two-hundred": figures.two_hundred,
    "added": figures.added,
    "acknowledgement": figures.acknowledgement,
    "streaming": figures.streaming,
}
MEMORY: dict[str, Callable[[House], list[Figure]]] = {
    "memory-idle": figures.memory_idle,
    "memory-outstanding": figures.memory_outstanding,
    "memory-growth": figures.memory_growth,
}


def main(arguments: Sequence[str] | None = None) -> int:
    names = ["start", *MEMORY, *WITH_MODELS, "kill"]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, and compare with the bars.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which figures: {', '.join(names)} (all)")
    parser.add_argument("--rounds", type=int, default=20, help="kill: how often each process is killed")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(names):
        parser.error(f"there is no figure {', '.join(sorted(unknown))}; choose from {', '.join(names)}")
    wanted = options.names or names
    os.sched_setaffinity(0, {OTHER_CORE} if (os.cpu_count() or 1) > 1 else os.sched_getaffinity(0))
    found: list[Figure] = []
    if "start" in wanted:
        from bench.start import clone_to_answer

        found += told(clone_to_answer())
    for group, models, demo in ((MEMORY, (LONG, ZERO), True), (WITH_MODELS, (ZERO, TWO_SECONDS, STREAM), False)):
        if chosen := [name for name in group if name in wanted]:
            with House(models, demo) as house:
                for name in chosen:
                    found += told(group[name](house))
    if "kill" in wanted:
        from bench.kill import every_process

        found += told(every_process(options.rounds))
    print()
    print(table(found))
    keep(found)
    return 0 if all(figure.holds for figure in found) else 1


def told(found: list[Figure]) -> list[Figure]:
    """Print figures as soon as they are known."""
    for figure in found:
        print(f"{figure.name}: {figure.value:.4g} {figure.unit}  {figure.note}", file=sys.stderr, flush=True)
    return found


def table(found: Sequence[Figure]) -> str:
    """The figures in Markdown."""
    lines = ["| figure | measured | bar | ratio | holds |", "| --- | --- | --- | --- | --- |"]
    for figure in found:
        bar = "" if figure.bar is None else f"{'≥' if figure.more else '≤'} {figure.bar:.4g} {figure.unit}".strip()
        ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
        holds = "yes" if figure.holds else "NO"
        lines.append(f"| {figure.name} | {figure.value:.4g} {figure.unit} | {bar} | {ratio} | {holds} |")
    return "\n".join(lines)


def keep(found: Sequence[Figure]) -> None:
    """Write the figures and the machine to bench/out/."""
    OUT.mkdir(exist_ok=True)
    now = datetime.now(UTC)
    versions = {"system": platform.platform(), "python": platform.python_version()}
    machine = {"cores": os.cpu_count(), "load": os.getloadavg(), **versions}
    record = {"at": now.isoformat(), "machine": machine, "figures": [figure.as_row() for figure in found]}
    path = OUT / f"{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False))
    print(f"\n{path}  ({time.strftime('%H:%M:%S')})", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
