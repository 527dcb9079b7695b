"""Command line of the trainer: `python -m weirtrain VERB --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from weirtrain import config, datasheet, evaluate, flips, gather, labelled, score, tiny, train

HERE = Path(__file__).resolve().parents[1]


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable, "")
    return Path(value) if value else None


def _add_sources(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--config", type=Path, default=HERE / "config.toml", help="TOML file")
    verb.add_argument("--data", type=Path, default=_folder("WEIR_DATA"), help="outcome sets (WEIR_DATA)")
    verb.add_argument("--corpus", type=Path, default=HERE.parents[1] / "training-data" / "corpus")
    verb.add_argument(
        "--benchmarks", type=Path, default=_folder("WEIR_BENCHMARKS"), help="decontaminated against (WEIR_BENCHMARKS)"
    )
    verb.add_argument("--cache", type=Path, default=HERE / ".cache", help="finished stages, reused by the next run")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="weirtrain", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    make_tiny = verbs.add_parser("tiny", help="write the seeded test bundle")
    make_tiny.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    training = verbs.add_parser("train", help="train a bundle from WEIR_DATA and the corpus")
    training.add_argument("--out", type=Path, required=True, help="the bundle's folder")
    sheet = verbs.add_parser("datasheet", help="write what training would read")
    sheet.add_argument("--out", type=Path, required=True, help="a Markdown file")
    for verb in (training, sheet):
        _add_sources(verb)
    scoring = verbs.add_parser("score", help="score prompts, as `weir score` does")
    scoring.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
    scoring.add_argument("--in", dest="source", type=Path, required=True, help="JSON lines: id, and prompt or messages")
    scoring.add_argument("--out", type=Path, required=True, help="JSON lines with the scores")
    scoring.add_argument("--ids", action="store_true", help="add the ids that the fast lane's graph was given")
    judging = verbs.add_parser("evaluate", help="RouteLLM's protocol on WEIR_BENCHMARKS")
    judging.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
    judging.add_argument("--benchmarks", type=Path, default=_folder("WEIR_BENCHMARKS"), help="(WEIR_BENCHMARKS)")
    judging.add_argument("--rounds", type=int, default=1000, help="bootstrap resamples")
    for name, what in (("labels", "agreement with the corpus's labels"), ("flips", "edits that must not count")):
        verb = verbs.add_parser(name, help=f"{what}, on the corpus's evaluation prompts")
        verb.add_argument("--bundle", type=Path, required=True, help="the bundle's folder")
        verb.add_argument("--corpus", type=Path, default=HERE.parents[1] / "training-data" / "corpus")
    for name in ("labels", "flips", "evaluate"):
        verbs.choices[name].add_argument("--lane", default="", help="ask this lane alone, not the cascade")
    return parser


def _datasheet(args: argparse.Namespace) -> None:
    sources = gather.Sources(args.data, args.corpus, args.benchmarks, args.cache)
    rows = gather.gather_all(config.load(args.config), sources)
    args.out.write_text(datasheet.render(rows), encoding="utf-8")


def _train(args: argparse.Namespace) -> None:
    sources = gather.Sources(args.data, args.corpus, args.benchmarks, args.cache)
    report = train.train(config.load(args.config), sources, args.out, "make train")
    print(json.dumps(report, indent=2, sort_keys=True))


def main(argv: list[str] | None = None) -> int:
    """Runs one verb and returns the exit code."""
    args = _parser().parse_args(argv)
    if args.verb == "tiny":
        print(tiny.make(args.out))
    elif args.verb == "train":
        _train(args)
    elif args.verb == "datasheet":
        _datasheet(args)
    elif args.verb == "score":
        print(score.score_file(args.bundle, args.source, args.out, args.ids), file=sys.stderr)
    elif args.verb in ("labels", "flips"):
        verb = labelled.report if args.verb == "labels" else flips.report
        verb(score.Bundle(args.bundle, args.lane), args.corpus, print)
    elif args.benchmarks is None:
        print("weirtrain evaluate: set WEIR_BENCHMARKS or give --benchmarks", file=sys.stderr)
        return 2
    else:
        evaluate.evaluate(score.Bundle(args.bundle, args.lane), args.benchmarks, args.rounds, 7, print)
    return 0


if __name__ == "__main__":
    sys.exit(main())
