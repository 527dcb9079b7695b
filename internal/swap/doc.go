// Package swap replaces the model bundle while Weir serves.
//
// A candidate is copied into a store of the manager's own, so that what is
// checked is what will serve, whatever happens to the folder that it came from.
// An Exam then holds it against gates: what the folder says of itself, a first
// load, golden probes, latency and memory beside the serving bundle, and a replay
// of prompts through both. The Exam is meant to run in a child process: a
// candidate that crashes, hangs or eats memory ends the child and is refused. Only
// a candidate that passed every gate is opened here, and published through the
// router's Store by one pointer. Requests in flight finish on the old bundle,
// which stays loaded until the new one has settled, so that going back takes one
// pointer too. Until then the new bundle is watched: when failures, latency or the
// tiers chosen leave their limits, the manager goes back by itself.
//
// Any fault on the way leaves what serves as it is.
package swap
