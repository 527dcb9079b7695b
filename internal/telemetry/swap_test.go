package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSwaps(t *testing.T) {
	m, err := NewMetrics(prometheus.NewRegistry(), Build{})
	require.NoError(t, err)
	s, err := m.Swaps()
	require.NoError(t, err)
	s.Bundle("refused", []string{"probes", "range"})
	s.Bundle("promoted", nil)
	s.Examined(300 * time.Millisecond)
	s.Settling(true)
	s.Reload("changed")
	page := httptest.NewRecorder()
	m.Handler(false).ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`weir_bundle_events_total{kind="refused"} 1`, `weir_bundle_events_total{kind="promoted"} 1`, `weir_bundle_refusals_total{gate="range"} 1`,
		`weir_bundle_exam_seconds_bucket{le="0.5"} 1`, "weir_bundle_settling 1", `weir_config_reloads_total{result="changed"} 1`,
	} {
		assert.Contains(t, page.Body.String(), want)
	}
	s.Settling(false)
	_, err = m.Swaps()
	require.Error(t, err, "once")
}
