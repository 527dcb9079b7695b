"""Records configurations over a set, grades the answers and writes the outcomes into the set."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from pathlib import Path

from recordoutcomes.configs import CONFIGS
from recordoutcomes.models import WEIGHTS, LlamaModel, weights_file
from recordoutcomes.record import run


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, or 2 for bad arguments (argparse)."""
    parser = argparse.ArgumentParser(prog="recordoutcomes", description=__doc__)
    parser.add_argument("--set", type=Path, required=True, help="the set, e.g. eval/sets/weir-local.jsonl")
    parser.add_argument("--config", action="append", choices=list(CONFIGS), help="repeat; all when not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, help="answer at most so many prompts in this run")
    parser.add_argument("--grade-only", action="store_true", help="run no model: grade the answers that are recorded")
    parser.add_argument("--weights-cache", type=Path, default=Path.home() / ".cache" / "weir-weights")
    args = parser.parse_args(arguments)
    if not args.set.is_file():
        parser.error(f"--set {args.set}: no such file")

    @functools.cache
    def load(name: str) -> LlamaModel:
        return LlamaModel(weights_file(name, args.weights_cache), chat=WEIGHTS[name].chat, threads=args.threads)

    if not args.grade_only:
        for name in args.config or list(CONFIGS):
            start = time.monotonic()
            count = run(args.set, CONFIGS[name], load, args.limit)
            print(f"{name}: {count} prompts answered in {time.monotonic() - start:.0f} s", file=sys.stderr)
    from recordoutcomes.grade import grade, table  # noqa: PLC0415

    print(table(grade(args.set)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
