//go:build native && cgo && linux

package onnx

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// campaign says that WEIR_CAMPAIGN asks for the long form of a test, which takes
// minutes to hours.
func campaign() bool { return os.Getenv("WEIR_CAMPAIGN") != "" }

// rss is the memory of this process, native and Go, in bytes, once what is free has
// gone back to the system.
func rss(t testing.TB) int64 {
	t.Helper()
	trimHeap()
	return untrimmed(t)
}

// untrimmed is rss with the native heap left as it is.
func untrimmed(t testing.TB) int64 {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector keeps memory of its own")
	}
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	require.NoError(t, err)
	_, rest, ok := bytes.Cut(status, []byte("VmRSS:"))
	require.True(t, ok)
	kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
	require.NoError(t, err)
	return kib << 10
}

// TestRunsLeakNothing watches the slope of the process's memory. One tensor left
// behind a run would show as some 10 MiB in the short form.
func TestRunsLeakNothing(t *testing.T) {
	warm, runs, most := 5_000, 40_000, int64(4<<20)
	if campaign() {
		warm, runs, most = 100_000, 1_000_000, 10<<20 // 1 MiB a hundred thousand
	}
	b := open(t, bundleDir("tiny"), Config{})
	run := func(n int) {
		for i := range n {
			_, err := b.Classify(t.Context(), "why does prompt number "+strconv.Itoa(i%500)+" leak?")
			require.NoError(t, err)
		}
	}
	run(warm)
	before := rss(t)
	run(runs)
	after := rss(t)
	t.Logf("%d runs: RSS %d to %d KiB", runs, before>>10, after>>10)
	assert.Less(t, after-before, most)
}

// TestReopeningLeaksNothing opens and closes as swaps do.
func TestReopeningLeaksNothing(t *testing.T) {
	warm, cycles, most := 20, 60, int64(4<<20)
	if campaign() {
		warm, cycles, most = 100, 2000, 16<<20
	}
	cycle := func(n int) {
		for range n {
			b, err := shared.Open(t.Context(), bundleDir("tiny"), Config{})
			require.NoError(t, err)
			require.NoError(t, b.Close())
		}
	}
	cycle(warm)
	before := rss(t)
	cycle(cycles)
	after := rss(t)
	t.Logf("%d cycles: RSS %d to %d KiB", cycles, before>>10, after>>10)
	assert.Less(t, after-before, most)
}

// TestCloseGivesMemoryBack would find some 70 MiB still held if Close only freed.
func TestCloseGivesMemoryBack(t *testing.T) {
	var bundles []*Bundle
	for range 6 {
		b, err := shared.Open(t.Context(), bundleDir("default"), Config{})
		require.NoError(t, err)
		bundles = append(bundles, b)
	}
	for _, b := range bundles {
		require.NoError(t, b.Close())
	}
	closed := untrimmed(t)
	trimmed := rss(t)
	t.Logf("RSS %d KiB after Close, %d KiB after another trim", closed>>10, trimmed>>10)
	assert.Less(t, closed-trimmed, int64(8<<20))
}

// TestRefusalsLeakNothing does the same with bundles that fail late: at their probes,
// with everything open.
func TestRefusalsLeakNothing(t *testing.T) {
	dir := tinyCopy(t)
	editGraph(t, dir, "base.onnx", func(model []byte) []byte { return setFloat("quality_high_1_bias", 0.125)(t, model) })
	refuse := func(n int) {
		for range n {
			_, err := shared.Open(t.Context(), dir, Config{})
			require.ErrorContains(t, err, "lane base")
		}
	}
	refuse(20)
	before := rss(t)
	refuse(60)
	after := rss(t)
	t.Logf("RSS %d to %d KiB", before>>10, after>>10)
	assert.Less(t, after-before, int64(4<<20))
}

// TestLargePromptsAreBounded holds what a prompt costs to four times its bytes and
// 16 MiB, whatever it is made of. The benchmark ClassifyLarge has the time.
func TestLargePromptsAreBounded(t *testing.T) {
	b := open(t, bundleDir("tiny"), Config{})
	for name, unit := range map[string]string{
		"words": "compare these two clauses ", "one word": "a", "marks": "!", "digits": "7", "lines": "a\n", "NUL": "\x00",
		"spaces": " ", "emoji": "\U0001F642", "han": "\u6211", "combining": "\u0301", "joined": "\U0001F469\u200d\U0001F4BB",
	} {
		for _, mib := range []int{1, 4, 16} {
			t.Run(fmt.Sprintf("%s/%d MiB", name, mib), func(t *testing.T) {
				text := "x" + strings.Repeat(unit, mib<<20/len(unit)) + "x" // white space inside a text counts
				var before, after runtime.MemStats
				native := rss(t)
				runtime.ReadMemStats(&before)
				s, err := b.Classify(t.Context(), text)
				require.NoError(t, err)
				runtime.ReadMemStats(&after)
				bound := int64(4*len(text) + 16<<20)
				assert.Less(t, int64(after.TotalAlloc-before.TotalAlloc), bound, "allocated by Go")
				assert.Less(t, rss(t)-native, bound, "kept by the process")
				assert.True(t, s.TokensEstimated)
				assert.Less(t, s.InputTokens-s.TruncatedTokens, 49)
			})
		}
	}
}
