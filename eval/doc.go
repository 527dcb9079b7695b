// Package eval replays benchmark sets through a classifier and a policy,
// offline, and says what it would have cost and how good it would have been.
//
// A set is a sequence of Case: a prompt with the outcomes that several models
// had on it. Run scores every prompt (Scorer, cached on disk), lets strategies
// choose between a weak and a strong model, commits to those choices by a
// digest, and only then opens the outcomes: strategies are given a Prompt,
// which has none. Weir's own strategy asks the very router.Rules.Decide that
// serves. The answer is a Report of figures with 95 % paired-bootstrap
// intervals, and a Sample a set with the columns behind them.
//
// Words are those of the literature. The share is the fraction of prompts that
// go to the strong model. PGR is (quality - weak) / (strong - weak); APGR is
// the area under PGR over the share; CPT(q) is the share, in percent, at which
// PGR reaches q. Cost saved is 1 - cost / cost of always strong; quality kept is
// quality / quality of always strong. Every metric's definition and source
// stand at its field in Result.
//
// Nothing here reads a clock, the network or the environment, and everything
// random is seeded: the same inputs give the same report.
package eval
