"""Command line of the trainer: `python -m weirtrain VERB --help`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from weirtrain import score, tiny


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weirtrain", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make_tiny = verbs.add_parser("tiny", help="write the seeded test bundle")
    make_tiny.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    scoring = verbs.add_parser("score", help="score prompts, as `weir score` does")
    scoring.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
    scoring.add_argument("--in", dest="source", type=Path, required=True, help="JSON lines: id, and prompt or messages")
    scoring.add_argument("--out", type=Path, required=True, help="JSON lines with the scores")
    scoring.add_argument("--ids", action="store_true", help="add the ids that the deciding lane's graph was given")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    args = _parser().parse_args(argv)
    if args.verb == "tiny":
        print(tiny.make(args.out))
    elif args.verb == "score":
        print(score.score_file(args.bundle, args.source, args.out, args.ids), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
