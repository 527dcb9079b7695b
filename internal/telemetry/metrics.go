// Package telemetry is what operators see of Weir: Prometheus metrics and
// OpenTelemetry traces, with every name in one file (names.go).
//
// Metrics adapts the core's Observer and the server's to a registry that is
// handed in. Labels are bounded: values beyond a metric's bound count under
// "_other", so that neither a long-lived server nor a hostile caller can grow
// it. Tracing is off, and costs nothing, unless the OTEL environment names an
// endpoint. No text of a prompt, metadata value or session id gets here.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"

	"github.com/weirhq/weir/router"
)

// maxSeries bounds the label values, or combinations, of one metric.
const maxSeries = 1000

// Build says what runs.
type Build struct {
	Version, Revision, GoVersion string
}

// Metrics counts. Make one by NewMetrics. It is safe for concurrent use and
// implements router.Observer, router.CompletionObserver and the server's Observer.
type Metrics struct {
	registry *prometheus.Registry

	decisions bounded[decisionKey, prometheus.Counter]
	models    bounded[string, prometheus.Counter]
	errors    bounded[string, prometheus.Counter]
	classify  bounded[string, prometheus.Observer]
	failures  bounded[string, prometheus.Counter]
	rpc       bounded[rpcKey, prometheus.Observer]
	route     prometheus.Histogram
	truncated prometheus.Counter
	strange   prometheus.Counter
	serving   *prometheus.GaugeVec

	*completions
}

type decisionKey struct {
	tier   router.Tier
	reason router.Reason
	domain uint8 // 0 when unscored
	policy string
}

type rpcKey struct {
	method string
	code   codes.Code
}

// NewMetrics registers every metric, the Go runtime's and the process's
// included, in the registry. It fails where the registry has one of them.
func NewMetrics(registry *prometheus.Registry, build Build) (*Metrics, error) {
	if registry == nil {
		return nil, errors.New("telemetry: registry is nil: give prometheus.NewRegistry()")
	}
	m := &Metrics{registry: registry}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prom(name) + "_total", Help: help}, labels)
	}
	seconds := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prom(name) + "_seconds", Help: help, Buckets: buckets()}, labels)
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: prom(name), Help: help}, labels)
	}
	decisions := counter(metricDecisions, "Decisions by the chosen model's tier, the reason, the prompt's domain and the policy.", labelTier, labelReason, labelDomain, labelPolicy)
	models := counter(metricModels, "Decisions by the chosen model.", labelModel)
	errs := counter(metricRouteErrors, "Route requests that ended without a decision.", labelKind)
	classify := seconds(metricClassifierDuration, "Time to score a prompt, the wait for a free core included.", labelLane)
	failures := counter(metricClassifierFailures, "Prompts that could not be scored and went to the unscored tier.", labelCause)
	rpc := seconds(metricRPCDuration, "Time inside the server by method and code.", labelMethod, labelCode)
	route := seconds(metricRouteDuration, "Time to score a prompt and decide.")
	truncated := counter(metricTruncated, "Prompts of which the model did not see every token.")
	strange := counter(metricOutOfDistribution, "Prompts unlike what the classifier was trained on.")
	buildInfo := gauge(metricBuild, "What runs; always 1.", labelVersion, labelRevision, labelGo)
	m.serving = gauge(metricServing, "The bundle and the config that decide; always 1.", labelBundle, labelConfig)

	var more []prometheus.Collector
	m.completions, more = newCompletions()
	var faults []error
	for _, c := range append(more,
		decisions, models, errs, classify, failures, rpc, route, truncated, strange, buildInfo, m.serving,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	) {
		faults = append(faults, registry.Register(c))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("telemetry: register metrics: %w", err)
	}
	m.decisions.make = func(k decisionKey, over bool) prometheus.Counter {
		return decisions.WithLabelValues(k.labels(over)...)
	}
	m.models.make = byLabel(models)
	m.errors.make = byLabel(errs)
	m.failures.make = byLabel(failures)
	m.classify.make = func(lane string, over bool) prometheus.Observer {
		return classify.WithLabelValues(orOther(lane, over))
	}
	m.rpc.make = func(k rpcKey, over bool) prometheus.Observer {
		return rpc.WithLabelValues(orOther(k.method, over), k.code.String())
	}
	m.route, _ = route.WithLabelValues().(prometheus.Histogram)
	m.truncated, m.strange = truncated.WithLabelValues(), strange.WithLabelValues()
	buildInfo.WithLabelValues(build.Version, build.Revision, build.GoVersion).Set(1)
	return m, nil
}

// buckets are finest where the fast lane lies, between .1 and 2 ms.
func buckets() []float64 {
	return []float64{.0001, .0002, .0003, .0005, .00075, .001, .0015, .002, .003, .005, .01, .02, .05, .1, .25, .5, 1, 5}
}

func byLabel(v *prometheus.CounterVec) func(string, bool) prometheus.Counter {
	return func(label string, over bool) prometheus.Counter { return v.WithLabelValues(orOther(label, over)) }
}

func orOther(label string, over bool) string {
	if over {
		return other
	}
	return label
}

// Routed implements router.Observer.
func (m *Metrics) Routed(r *router.Record, err error) {
	m.route.Observe(r.Total.Seconds())
	if err != nil {
		m.errors.get(errorKind(err)).Inc()
		return
	}
	d := &r.Decision
	key := decisionKey{tier: d.Chosen.Model.Tier, reason: d.Reason, policy: d.Policy}
	if d.Scored {
		domain, _ := d.Scores.Domain()
		key.domain = uint8(domain)
		m.classify.get(d.Scores.Lane).Observe(r.Classify.Seconds())
		if d.Scores.TruncatedTokens > 0 {
			m.truncated.Inc()
		}
		if d.Scores.OutOfDistribution {
			m.strange.Inc()
		}
	} else {
		m.classify.get(unscored).Observe(r.Classify.Seconds())
		m.failures.get(r.ScoringError).Inc()
	}
	m.decisions.get(key).Inc()
	m.models.get(d.Chosen.Model.ID).Inc()
}

// RPC counts a call of the server: its full method name, code and time.
func (m *Metrics) RPC(method string, code codes.Code, d time.Duration) {
	m.rpc.get(rpcKey{method: method, code: code}).Observe(d.Seconds())
}

// Serving names the digests that decide from now on.
func (m *Metrics) Serving(bundleDigest, configDigest string) {
	m.serving.Reset()
	m.serving.WithLabelValues(bundleDigest, configDigest).Set(1)
}

// Handler serves /metrics, and the Go profiler under /debug/pprof/ where asked
// for. Profiles hold no prompts but much else: keep such a listener local.
func (m *Metrics) Handler(profiler bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	if profiler {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// labels are the values in the order of the metric's labels. Beyond the bound
// only the policy, the one that a config can grow, is replaced.
func (k decisionKey) labels(over bool) []string {
	return []string{k.tier.String(), k.reason.String(), domainName(k.domain), orOther(k.policy, over)}
}

// bounded keeps a metric's children by key, at most maxSeries and those under
// "_other", so that a call looks one up without building labels.
type bounded[K comparable, V any] struct {
	make func(key K, over bool) V
	mu   sync.RWMutex
	byID map[K]V
}

func (b *bounded[K, V]) get(key K) V {
	b.mu.RLock()
	v, ok := b.byID[key]
	b.mu.RUnlock()
	if ok {
		return v
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if v, ok := b.byID[key]; ok {
		return v
	}
	if len(b.byID) >= maxSeries {
		return b.make(key, true)
	}
	if b.byID == nil {
		b.byID = map[K]V{}
	}
	v = b.make(key, false)
	b.byID[key] = v
	return v
}

// errorKind names an error of Route in one word of a closed list.
func errorKind(err error) string {
	var none *router.NoEligibleError
	var tooLong *router.ContextTooLongError
	switch {
	case errors.As(err, &none):
		return "no_eligible_model"
	case errors.As(err, &tooLong):
		return "context_too_long"
	case errors.Is(err, router.ErrUnknownModel), errors.Is(err, router.ErrUnknownPolicy):
		return "not_found"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "caller_gone"
	default:
		return classifierErrorKind(err)
	}
}
