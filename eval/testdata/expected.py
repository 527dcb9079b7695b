"""Computes, apart from the Go code, the figures that the tests of package eval
expect, with the functions that RouteLLM's evaluation calls: pandas.qcut,
numpy.interp, numpy.trapezoid.

    python expected.py synthetic.jsonl [ROUTELLM_EVALS_FOLDER] > expected.json

It needs numpy 2 and pandas 2 or later. The output holds figures only.
"""
import csv
import glob
import json
import re
import sys

import numpy as np
import pandas as pd

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
LEVELS = (0.2, 0.5, 0.8)


def curve(score, weak, strong, cost_weak=None, cost_strong=None):
    """RouteLLM's eleven points, lowest share first: share, quality, cost."""
    score = pd.Series(np.asarray(score, float))
    _, thresholds = pd.qcut(score, 10, retbins=True)
    points = []
    for i, t in enumerate(thresholds):
        chosen = (score >= t if i != len(thresholds) - 1 else score > t).to_numpy()
        cost = np.where(chosen, cost_strong, cost_weak).mean() if cost_weak is not None else 0.0
        points.append((chosen.mean(), np.where(chosen, strong, weak).mean(), cost))
    points.sort(key=lambda p: p[0])
    return tuple(np.array(column) for column in zip(*points))


def ranking(score, weak, strong):
    x, y, _ = curve(score, weak, strong)
    w, s = weak.mean(), strong.mean()
    area = lambda v: np.trapezoid(v, x)
    flat = np.ones_like(x)
    return {
        "apgr": (area(y) - area(w * flat)) / (area(s * flat) - area(w * flat)),
        "cpt": {f"{100 * q:.0f}": 100 * float(np.interp(q * (s - w) + w, y, x)) for q in LEVELS},
        "monotone": bool((np.diff(y) >= -1e-12).all()),
    }


def broken_ties(score):
    return pd.Series(np.asarray(score, float)).rank(method="first").to_numpy()


def exact(score, weak, strong):
    """Every score as a threshold: the area, and the least share at a PGR."""
    w, s = weak.mean(), strong.mean()
    xs, ys = [0.0], [w]
    for t in sorted(set(score), reverse=True):
        chosen = score >= t
        xs.append(chosen.mean())
        ys.append(np.where(chosen, strong, weak).mean())
    pgr = (np.array(ys) - w) / (s - w)
    least = {f"{100 * q:.0f}": 100 * min(x for x, p in zip(xs, pgr) if p >= q - 1e-9) for q in LEVELS}
    return float(np.trapezoid(pgr, xs)), least


def hull(points):
    """Upper convex hull, never going down, by brute force: at x the best chord."""
    def at(x):
        best = -np.inf
        for x0, y0 in points:
            if x0 <= x:
                best = max(best, y0)
            for x1, y1 in points:
                if x0 < x1 and x0 <= x <= x1:
                    best = max(best, y0 + (y1 - y0) * (x - x0) / (x1 - x0))
        return best
    return at


def aiq(cost, quality):
    at = hull(list(zip(cost, quality)))
    # The hull's corners lie at the points' own costs, or where it goes flat.
    grid = np.unique(cost)
    y = np.array([at(x) for x in grid])
    return np.trapezoid(y, grid) / (grid[-1] - grid[0]), np.trapezoid(y, grid) / grid[-1]


def ece(p, outcome):
    bins = np.minimum((p * 10).astype(int), 9)
    return sum(abs(p[bins == b].sum() - outcome[bins == b].sum()) for b in range(10)) / len(p)


def synthetic(name):
    rows = [json.loads(line) for line in open(name, encoding="utf-8") if line.strip()]
    rows = [r for r in rows if r.get("split") != "overlap"]
    weak = np.array([r["outcomes"]["small"] for r in rows], float)
    strong = np.array([r["outcomes"]["large"] for r in rows], float)
    cost_weak = np.array([round(r["cost_usd"]["small"] * 1e9) / 1e9 for r in rows])
    cost_strong = np.array([round(r["cost_usd"]["large"] * 1e9) / 1e9 for r in rows])
    q = np.array([[float(v) for v in re.search(r"\(low (\S+), high (\S+)\)", r["prompt"]).groups()] for r in rows])
    gain = q[:, 1] - q[:, 0]
    x, y, c = curve(gain, weak, strong, cost_weak, cost_strong)
    apgr_exact, cpt_true = exact(gain, weak, strong)
    paper, code = aiq(c, y)
    level = 0.95 * strong.mean()
    return {
        "n": len(rows), "weak": weak.mean(), "strong": strong.mean(),
        "gain": ranking(gain, weak, strong), "length": ranking([len(r["prompt"]) for r in rows], weak, strong),
        "oracle": ranking(broken_ties(strong - weak), weak, strong),
        "apgr_exact": apgr_exact, "cpt_true": cpt_true, "aiq_paper": paper, "aiq_code": code,
        "ece_efficient": ece(q[:, 0], weak), "ece_high": ece(q[:, 1], strong),
        "perf_gain": y.max() / max(weak.mean(), strong.mean()) - 1,
        "share_at_95": float(np.interp(level, y, x)),
        "saved_at_95": 1 - float(np.interp(level, y, c)) / cost_strong.mean(),
        "cost_strong": cost_strong.mean(),
    }


def routellm(folder):
    csv.field_size_limit(10**9)
    out = {}
    for name, files in (("mmlu", "mmlu/responses/mmlu_*.csv"), ("gsm8k", "gsm8k/gsm8k_responses.csv")):
        dropped = {json.loads(line)["eval_prompt"] for line in open(f"{folder}/{name}/contaminated_prompts.jsonl", encoding="utf-8") if line.strip()}
        rows = [r for f in sorted(glob.glob(f"{folder}/{files}")) for r in csv.DictReader(open(f, newline="", encoding="utf-8"))]
        rows = [r for r in rows if r["prompt"] not in dropped]
        weak, strong = (np.array([r[m] == "True" for r in rows], float) for m in (WEAK, STRONG))
        out[name] = summary(weak, strong, [len(r["prompt"]) for r in rows])
    read = lambda f: [json.loads(line) for line in open(f"{folder}/mt_bench/{f}", encoding="utf-8") if line.strip()]
    dropped = {r["eval_prompt"] for r in read("contaminated_prompts.jsonl")}
    judged = pd.DataFrame(read("judgements.jsonl"))[["question_id", "model", "score"]]
    means = judged.groupby(["question_id", "model"])["score"].mean().unstack() / 10
    rows = [r for r in read("question.jsonl") if r["question_id"] in means.index and not dropped & set(r["turns"])]
    weak, strong = (np.array([means.loc[r["question_id"], m] for r in rows]) for m in (WEAK, STRONG))
    out["mt-bench"] = summary(weak, strong, [len(r["turns"][0]) for r in rows])
    return out


def summary(weak, strong, length):
    return {
        "n": len(weak), "weak": weak.mean(), "strong": strong.mean(),
        "length": ranking(length, weak, strong), "oracle": ranking(broken_ties(strong - weak), weak, strong),
    }


if __name__ == "__main__":
    result = {"synthetic": synthetic(sys.argv[1])}
    if len(sys.argv) > 2:
        result["routellm"] = routellm(sys.argv[2])
    json.dump(result, sys.stdout, indent=1, default=float)
    print()
