//go:build race

package ledger

// raceDetector slows these tests ten times and more.
const raceDetector = true
