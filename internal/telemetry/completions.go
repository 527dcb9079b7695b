package telemetry

import (
	"context"
	"errors"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/weirhq/weir/router"
)

// completions is what Metrics counts of completions.
type completions struct {
	calls    bounded[callKey, prometheus.Counter]
	attempts bounded[attemptKey, prometheus.Counter]
	duration bounded[attemptKey, prometheus.Observer]
	first    bounded[modelKey, prometheus.Observer]
	tokens   bounded[tokenKey, prometheus.Observer]
	cost     bounded[modelKey, prometheus.Counter]
	total    prometheus.Histogram
	savings  prometheus.Gauge
	unpriced prometheus.Counter
	cached   prometheus.Counter
}

type callKey struct{ status, policy string }

type modelKey struct{ model, upstream string }

type attemptKey struct {
	modelKey
	outcome string
}

type tokenKey struct {
	modelKey
	kind string
}

// newCompletions makes the metrics and returns what has to be registered.
func newCompletions() (*completions, []prometheus.Collector) {
	genAI := func(more ...string) []string { // the labels of every metric of an attempt
		labels := append([]string{attrOperation, attrProvider, attrRequestModel}, more...)
		for i, l := range labels {
			labels[i] = prom(l)
		}
		return labels
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prom(name) + "_total", Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prom(name), Help: help, Buckets: buckets}, labels)
	}
	calls := counter(metricCompletions, "Completions by how they ended and the policy.", labelStatus, labelPolicy)
	attempts := counter(metricAttempts, "Upstream calls by provider, model and outcome: ok, or the kind of failure.", genAI(labelOutcome)...)
	duration := histogram(metricOperation+"_seconds", "Time of an upstream call.", operationBuckets(), genAI(attrError)...)
	first := histogram(metricFirst+"_seconds", "Time to the first content of an upstream call.", operationBuckets(), genAI()...)
	tokens := histogram(metricBilled, "Tokens billed by an upstream call, by type.", tokenBuckets(), genAI(attrBilledKind)...)
	cost := counter(metricCost, "Money spent, in nano-dollars; exact to 2^53.", genAI()[1:]...)
	total := histogram(metricCompleteDuration+"_seconds", "Time of a completion with all its attempts.", operationBuckets())
	savings := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prom(metricSavings), Help: "Money saved against the baseline since the start, in nano-dollars; it falls where routing costs more.",
	})
	unpriced := counter(metricUnpriced, "Upstream calls of unknown price, which the cost leaves out.")
	cached := counter(metricScoreCache, "Completions whose prompt had been scored before.")
	c := &completions{savings: savings, unpriced: unpriced.WithLabelValues(), cached: cached.WithLabelValues()}
	c.total, _ = total.WithLabelValues().(prometheus.Histogram)
	c.calls.make = func(k callKey, over bool) prometheus.Counter {
		return calls.WithLabelValues(k.status, orOther(k.policy, over))
	}
	c.attempts.make = func(k attemptKey, over bool) prometheus.Counter {
		return attempts.WithLabelValues(k.labels(over, k.outcome)...)
	}
	c.duration.make = func(k attemptKey, over bool) prometheus.Observer {
		return duration.WithLabelValues(k.labels(over, k.outcome)...)
	}
	c.first.make = func(k modelKey, over bool) prometheus.Observer { return first.WithLabelValues(k.labels(over)...) }
	c.tokens.make = func(k tokenKey, over bool) prometheus.Observer {
		return tokens.WithLabelValues(k.labels(over, k.kind)...)
	}
	c.cost.make = func(k modelKey, over bool) prometheus.Counter { return cost.WithLabelValues(k.labels(over)[1:]...) }
	return c, []prometheus.Collector{calls, attempts, duration, first, tokens, cost, total, savings, unpriced, cached}
}

// labels are the values in the order of the labels; beyond the bound, provider
// and model are replaced.
func (k modelKey) labels(over bool, more ...string) []string {
	return append([]string{operationChat, orOther(k.upstream, over), orOther(k.model, over)}, more...)
}

// operationBuckets and tokenBuckets are the conventions' own.
func operationBuckets() []float64 {
	return []float64{.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
}

func tokenBuckets() []float64 {
	return []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
}

// outcomeOK is how an attempt that answered is spelled.
const outcomeOK = "ok"

// AttemptDone implements router.CompletionObserver.
func (m *Metrics) AttemptDone(_ context.Context, _ *router.Record, a *router.AttemptRecord, _ error) {
	c, at := m.completions, modelKey{model: a.Model, upstream: a.Upstream}
	c.attempts.get(attemptKey{at, a.Outcome}).Inc()
	failure := a.Outcome
	if failure == outcomeOK {
		failure = ""
	}
	c.duration.get(attemptKey{at, failure}).Observe(a.Duration.Seconds())
	if a.FirstContent > 0 {
		c.first.get(at).Observe(a.FirstContent.Seconds())
	}
	if a.Usage.Input > 0 || a.Usage.Output > 0 {
		c.tokens.get(tokenKey{at, billedIn}).Observe(float64(a.Usage.Input))
		c.tokens.get(tokenKey{at, billedOut}).Observe(float64(a.Usage.Output))
	}
	if a.CostKnown {
		c.cost.get(at).Add(float64(a.Cost))
	} else {
		c.unpriced.Inc()
	}
}

// CallDone implements router.CompletionObserver.
func (m *Metrics) CallDone(_ context.Context, rec *router.Record, done *router.Done, err error) {
	c := m.completions
	c.calls.get(callKey{statusOf(done, err), rec.Decision.Policy}).Inc()
	if done == nil {
		return
	}
	if n := len(done.Attempts); n > 0 {
		last := done.Attempts[n-1]
		c.total.Observe(last.Start.Add(last.Duration).Sub(rec.Time).Seconds())
	}
	if done.Receipt.SavingsKnown {
		c.savings.Add(float64(done.Receipt.Savings))
	}
	if done.ScoreCached {
		c.cached.Inc()
	}
}

// statusOf says in one word of a closed list how a completion ended.
func statusOf(done *router.Done, err error) string {
	switch {
	case err == nil && done != nil && done.Complete:
		return "complete"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case done != nil && !done.Complete && done.Model != "":
		return "incomplete"
	default:
		return "failed"
	}
}

// Completions returns an observer that makes a span an upstream call, named as
// the conventions ask ("chat MODEL"), and passes everything on to next; next
// itself when tracing is off.
func (t *Tracing) Completions(next router.CompletionObserver) router.CompletionObserver {
	if t.provider == nil {
		return next
	}
	return &tracedCompletions{CompletionObserver: next, tracer: t.provider.Tracer(scope)}
}

type tracedCompletions struct {
	router.CompletionObserver
	tracer trace.Tracer
}

// AttemptDone implements router.CompletionObserver.
func (o *tracedCompletions) AttemptDone(ctx context.Context, rec *router.Record, a *router.AttemptRecord, err error) {
	attrs := []attribute.KeyValue{
		attribute.String(attrOperation, operationChat),
		attribute.String(attrProvider, a.Upstream),
		attribute.String(attrRequestModel, a.Model),
		attribute.String(attrDecision, rec.ID),
		attribute.Int64(attrBilledIn, a.Usage.Input),
		attribute.Int64(attrBilledOut, a.Usage.Output),
		attribute.Int64(attrCacheRead, a.Usage.CachedInput),
		attribute.Int64(attrCacheCreation, a.Usage.CacheWrite),
		attribute.Bool(attrEstimated, a.Usage.Estimated),
	}
	if a.CostKnown {
		attrs = append(attrs, attribute.Int64(attrCost, int64(a.Cost)))
	}
	_, span := o.tracer.Start(ctx, operationChat+" "+strings.ToValidUTF8(a.Model, "?"),
		trace.WithTimestamp(a.Start), trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
	if a.Outcome != outcomeOK {
		span.SetAttributes(attribute.String(attrError, a.Outcome))
		span.SetStatus(codes.Error, a.Outcome)
	}
	span.End(trace.WithTimestamp(a.Start.Add(a.Duration)))
	o.CompletionObserver.AttemptDone(ctx, rec, a, err)
}
