package telemetry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

// Every metric and label that the dashboard asks for is one that Weir exports:
// a renamed metric would leave an empty panel and nobody would be told.
func TestTheDashboardAsksForWhatIsThere(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "deploy", "grafana", "weir.json"))
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	require.NoError(t, json.Unmarshal(raw, &dashboard))

	m, reg := newTestMetrics(t)
	m.Routed(testRecord(), nil)
	m.Routed(testRecord(), router.ErrUnknownModel)
	blind := testRecord()
	blind.Decision.Scored, blind.ScoringError = false, "timeout"
	m.Routed(blind, nil)
	m.RPC("/m", 0, 1)
	m.Serving("b", "c")
	m.AttemptDone(t.Context(), testRecord(), testAttempt(outcomeOK), nil)
	m.CallDone(t.Context(), testRecord(), &router.Done{Complete: true}, nil)
	families, err := reg.Gather()
	require.NoError(t, err)
	known := map[string]bool{"le": true, "instance": true, "by": true, "sum": true, "process_resident_memory_bytes": true}
	for _, f := range families {
		for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
			known[f.GetName()+suffix] = true
		}
		for _, s := range f.GetMetric() {
			for _, l := range s.GetLabel() {
				known[l.GetName()] = true
			}
		}
	}
	names := regexp.MustCompile(`\b(?:weir|gen_ai|process)_[a-z_]+\b|by \(([a-z_, ]+)\)`)
	label := regexp.MustCompile(`[a-z_]+`)
	asked := 0
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			for _, found := range names.FindAllStringSubmatch(target.Expr, -1) {
				asked++
				if found[1] == "" {
					assert.True(t, known[found[0]], "panel %q asks for %s", p.Title, found[0])
					continue
				}
				for _, l := range label.FindAllString(found[1], -1) {
					assert.True(t, known[l], "panel %q groups by %s", p.Title, l)
				}
			}
		}
	}
	assert.Greater(t, asked, 30)
}
