package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

// wideConfig has n models of two tiers; every other one is measured where asked.
func wideConfig(n int, measured bool) string {
	var b strings.Builder
	b.WriteString("version: 1\ndefault_policy: p\nupstreams: [{id: u, dialect: openai, base_url: \"http://localhost/\"}]\npolicies: [{id: p, max_quality_gap: 0.1}]\nmodels:\n")
	for i := range n {
		quality := ""
		if measured && i%2 == 0 {
			quality = fmt.Sprintf("quality: {intercept: 0.%d, efficient: 0.5, high: 0.5, half_width: 0.3, evidence: t}, ", i%10)
		}
		fmt.Fprintf(&b, "  - {id: m%d, tier: %s, context_window: 100000, max_output_tokens: 8000, price: {input: \"$%d/M\", output: \"$%d/M\", source: t, date: \"2026-01-01\"}, %sdeployments: [{upstream: u, name: x}]}\n",
			i, []string{"EFFICIENT", "HIGH_PERFORMANCE"}[i%2], i+1, 3*i+2, quality)
	}
	return b.String()
}

func BenchmarkDecide50(b *testing.B) {
	for name, measured := range map[string]bool{"unmeasured": false, "measured": true} {
		b.Run(name, func(b *testing.B) { benchmarkDecide(b, wideConfig(50, measured), demand(0.5, 0.8)) })
	}
	b.Run("max_cost", func(b *testing.B) {
		d := demand(0.5, 0.8)
		d.Limits.MaxCost = router.Some(router.NanoUSD(60_000_000))
		benchmarkDecide(b, wideConfig(50, false), d)
	})
	b.Run("session", func(b *testing.B) {
		d := demand(0.5, 0.8)
		d.InSession, d.Session = true, router.SessionState{PreviousModel: "m7", Need: router.HighPerformance, CachedTokens: 5000}
		benchmarkDecide(b, wideConfig(50, false), d)
	})
}

func benchmarkDecide(b *testing.B, config string, d router.Demand) {
	b.Helper()
	r := rules(b, config)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Decide(d); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDecideAllocatesOneListOfCandidates: whatever the size of the catalog, the
// list of candidates is one allocation and all else is small.
func TestDecideAllocatesOneListOfCandidates(t *testing.T) {
	allocs := func(n int) float64 {
		r, d := rules(t, wideConfig(n, true)), demand(0.5, 0.8)
		return testing.AllocsPerRun(20, func() {
			if _, err := r.Decide(d); err != nil {
				t.Error(err)
			}
		})
	}
	few := allocs(4)
	require.LessOrEqual(t, few, 4.0)
	require.InDelta(t, few, allocs(60), 0)
	require.LessOrEqual(t, allocs(500), few+12, "beyond 64 models the keys grow on the heap, by doubling")
}
