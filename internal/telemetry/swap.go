package telemetry

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Swaps counts what happens to the model bundle and the routing config while they
// serve. It is safe for concurrent use.
type Swaps struct {
	events, refusals, reloads *prometheus.CounterVec
	exam                      prometheus.Histogram
	settling                  prometheus.Gauge
}

// Swaps registers the metrics of swaps beside the others. It fails where it was
// called before.
func (m *Metrics) Swaps() (*Swaps, error) {
	s := &Swaps{
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prom(metricBundleEvents) + "_total", Help: "What happened to model bundles: staged, refused, failed, promoted, settled, rolled_back.",
		}, []string{labelKind}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prom(metricBundleRefusals) + "_total", Help: "Candidates refused, by each gate that refused them.",
		}, []string{labelGate}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prom(metricConfigReloads) + "_total", Help: "Reloads of the routing config: changed, unchanged or refused.",
		}, []string{labelResult}),
		exam: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prom(metricBundleExam) + "_seconds", Help: "Time to examine a candidate, its copy included.", Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}),
		settling: prometheus.NewGauge(prometheus.GaugeOpts{Name: prom(metricBundleSettling), Help: "1 while a promoted bundle is watched and the one before stays loaded."}),
	}
	var faults []error
	for _, c := range []prometheus.Collector{s.events, s.refusals, s.reloads, s.exam, s.settling} {
		faults = append(faults, m.registry.Register(c))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("telemetry: register metrics: %w", err)
	}
	return s, nil
}

// Bundle counts an event by its kind, and the gates that refused.
func (s *Swaps) Bundle(kind string, gates []string) {
	s.events.WithLabelValues(kind).Inc()
	for _, g := range gates {
		s.refusals.WithLabelValues(g).Inc()
	}
}

// Examined notes how long an examination took.
func (s *Swaps) Examined(took time.Duration) { s.exam.Observe(took.Seconds()) }

// Settling tells whether a promoted bundle is still watched.
func (s *Swaps) Settling(yes bool) {
	if yes {
		s.settling.Set(1)
		return
	}
	s.settling.Set(0)
}

// Reload counts a reload of the routing config: "changed", "unchanged" or "refused".
func (s *Swaps) Reload(result string) { s.reloads.WithLabelValues(result).Inc() }
