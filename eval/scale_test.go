package eval

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

// TestScale replays sets of 10,000 records and more, from JSONL on disk through
// the lexical classifier, Decide and 1,000 resamples, and reports the time and
// the process's peak memory. WEIR_SCALE names the largest set:
//
//	WEIR_SCALE=1000000 go test -run TestScale -v -timeout 60m ./eval
func TestScale(t *testing.T) {
	largest, err := strconv.Atoi(os.Getenv("WEIR_SCALE"))
	if err != nil {
		t.Skip("WEIR_SCALE is not set: it is the number of records of the largest set, such as 1000000")
	}
	dir := t.TempDir()
	for n := 10_000; n <= largest; n *= 10 {
		name := filepath.Join(dir, fmt.Sprintf("%d.jsonl", n))
		writeScale(t, name, n)
		stages := map[string]time.Time{}
		begin := time.Now()
		report, _, err := Run(t.Context(), Config{
			Sources:    []Source{{Name: "scale", Weak: "small", Strong: "large", Cases: ReadFile(name)}},
			Classifier: classifier.Lexical{}, Seed: 1,
			Progress: func(_, stage string, _ int) { stages[stage] = time.Now() },
		})
		require.NoError(t, err)
		require.Equal(t, n, report.Sets[0].N)
		took := time.Since(begin)
		t.Logf("%8d records: %7.2f s (replay %.2f s, %.0f records/s; 1,000 resamples %.2f s), %.0f records/s, peak memory %s",
			n, took.Seconds(), stages["score"].Sub(begin).Seconds(), float64(n)/stages["score"].Sub(begin).Seconds(),
			stages["done"].Sub(stages["measure"]).Seconds(), float64(n)/took.Seconds(), peakMemory())
	}
}

func writeScale(t *testing.T, name string, n int) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	w := bufio.NewWriterSize(f, 1<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("explain prove write list the of a graph sum proof letter tax law dose 12 code why in how table")
	for i := range n {
		fmt.Fprintf(w, `{"id":"r%d","set":"scale","split":"eval","domain":"d%d","outcomes":{"small":%d,"large":%d},"prompt":"`, i, i%20, rng.IntN(2), min(1, rng.IntN(4)))
		for range 5 + rng.IntN(40) {
			w.WriteString(words[rng.IntN(len(words))])
			w.WriteByte(' ')
		}
		w.WriteString("?\"}\n")
	}
	require.NoError(t, w.Flush())
	require.NoError(t, f.Close())
}

// peakMemory is the greatest resident size of the process so far, where the
// system tells it.
func peakMemory() string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, _ := strconv.Atoi(strings.Fields(kib)[0])
			return fmt.Sprintf("%d MiB", n/1024)
		}
	}
	return "unknown"
}
