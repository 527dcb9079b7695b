package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/stats"

	"github.com/weirhq/weir/router"
)

// flushBound is how long Shutdown lets the last spans be sent.
const flushBound = 5 * time.Second

// scope names the instrumentation in every span.
const scope = "github.com/weirhq/weir"

// Tracing makes and exports spans. Make one by NewTracing; it is safe for
// concurrent use. Whoever made it calls Shutdown once.
type Tracing struct {
	provider *sdktrace.TracerProvider // nil when off
	exporter sdktrace.SpanExporter    // nil when off, and in tests
}

// NewTracing reads the standard OTEL_* variables by getenv. It is off unless
// OTEL_EXPORTER_OTLP_TRACES_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT is set, and
// when OTEL_SDK_DISABLED is true or OTEL_TRACES_EXPORTER is none. Spans go by
// OTLP over gRPC; the exporter connects in the background, so a collector that
// is away stops nothing. Certificates, headers, compression and time-outs of
// the exporter, and the sizes of its queue, come from the process's environment.
func NewTracing(ctx context.Context, build Build, getenv func(string) string) (*Tracing, error) {
	endpoint := getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if endpoint == "" {
		endpoint = getenv("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	if endpoint == "" || strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return &Tracing{}, nil
	}
	sampler, err := samplerOf(getenv)
	u, urlErr := url.Parse(endpoint)
	if urlErr != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		// The address may hold a password: it is not shown.
		err = errors.Join(err, errors.New("OTEL_EXPORTER_OTLP_ENDPOINT is no address: write http://HOST:4317, or https:// for TLS"))
	}
	if p := getenv("OTEL_EXPORTER_OTLP_PROTOCOL"); p != "" && p != "grpc" {
		err = errors.Join(err, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL is %q: only grpc is built in", p))
	}
	if err != nil {
		return nil, fmt.Errorf("telemetry: tracing: %w", err)
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(endpoint))
	if err != nil {
		return nil, fmt.Errorf("telemetry: trace exporter: %w", err)
	}
	t := newTracing(sdktrace.NewBatchSpanProcessor(exporter), sampler, resourceOf(build, getenv))
	t.exporter = exporter
	return t, nil
}

func newTracing(p sdktrace.SpanProcessor, sampler sdktrace.Sampler, r *resource.Resource) *Tracing {
	return &Tracing{provider: sdktrace.NewTracerProvider(
		sdktrace.WithSpanProcessor(p), sdktrace.WithSampler(sampler), sdktrace.WithResource(r),
	)}
}

// resourceOf names the service; OTEL_SERVICE_NAME wins over OTEL_RESOURCE_ATTRIBUTES.
func resourceOf(build Build, getenv func(string) string) *resource.Resource {
	attrs := []attribute.KeyValue{attribute.String("service.name", "weir"), attribute.String("service.version", build.Version)}
	for pair := range strings.SplitSeq(getenv("OTEL_RESOURCE_ATTRIBUTES"), ",") {
		k, v, ok := strings.Cut(pair, "=")
		if text, err := url.PathUnescape(strings.TrimSpace(v)); ok && err == nil {
			attrs = append(attrs, attribute.String(strings.TrimSpace(k), text))
		}
	}
	if name := getenv("OTEL_SERVICE_NAME"); name != "" {
		attrs = append(attrs, attribute.String("service.name", name))
	}
	return resource.NewSchemaless(attrs...)
}

func samplerOf(getenv func(string) string) (sdktrace.Sampler, error) {
	name, arg := getenv("OTEL_TRACES_SAMPLER"), getenv("OTEL_TRACES_SAMPLER_ARG")
	ratio := 1.0
	if strings.HasSuffix(name, "traceidratio") && arg != "" {
		var err error
		if ratio, err = strconv.ParseFloat(arg, 64); err != nil || !(ratio >= 0 && ratio <= 1) {
			return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG is %q: want a number from 0 to 1", arg)
		}
	}
	switch name {
	case "", "parentbased_always_on":
		return sdktrace.ParentBased(sdktrace.AlwaysSample()), nil
	case "always_on":
		return sdktrace.AlwaysSample(), nil
	case "always_off":
		return sdktrace.NeverSample(), nil
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio), nil
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample()), nil
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio)), nil
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER is %q: use always_on, always_off, traceidratio or one of these after parentbased_", name)
	}
}

// On tells whether spans are made.
func (t *Tracing) On() bool { return t.provider != nil }

// StatsHandler makes the server's spans, as children of a caller's W3C
// traceparent. It is nil when tracing is off: a handler costs every call.
func (t *Tracing) StatsHandler() stats.Handler {
	if t.provider == nil {
		return nil
	}
	return otelgrpc.NewServerHandler(
		otelgrpc.WithTracerProvider(t.provider),
		otelgrpc.WithMeterProvider(noop.NewMeterProvider()), // metrics are Prometheus's
		otelgrpc.WithPropagators(propagation.TraceContext{}),
		otelgrpc.WithFilter(func(i *stats.RPCTagInfo) bool { return !strings.HasPrefix(i.FullMethodName, "/grpc.") }),
	)
}

// Shutdown sends what is left, for at most five seconds, and ends the exporter.
func (t *Tracing) Shutdown(ctx context.Context) error {
	if t.provider == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushBound)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	if err == nil {
		return nil
	}
	// The provider gave up while the exporter still tries: end that too.
	if t.exporter != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		err = errors.Join(err, t.exporter.Shutdown(stop))
	}
	return fmt.Errorf("telemetry: flush traces: %w", err)
}

// Router is what is traced; *router.Router is one.
type Router interface {
	Route(ctx context.Context, req *router.Request) (router.Record, error)
	Decision(id string) (router.Record, []router.Outcome, error)
	ReportOutcome(id, key string, o router.Outcome) (bool, error)
}

// Trace returns a router that makes the spans weir.route, weir.classify and
// weir.decide; next itself when tracing is off.
func (t *Tracing) Trace(next Router) Router {
	if t.provider == nil {
		return next
	}
	return &tracedRouter{Router: next, tracer: t.provider.Tracer(scope)}
}

type tracedRouter struct {
	Router
	tracer trace.Tracer
}

// Route implements Router.
func (r *tracedRouter) Route(ctx context.Context, req *router.Request) (router.Record, error) {
	ctx, span := r.tracer.Start(ctx, spanRoute)
	// A deferred End would put the value of a panic, which may hold the prompt,
	// into the span; called from a deferred function it does not.
	panicked := true
	defer func() {
		if panicked {
			span.SetAttributes(attribute.String(attrError, "panic"))
			span.SetStatus(codes.Error, "panic")
		}
		span.End()
	}()
	rec, err := r.Router.Route(ctx, req)
	panicked = false
	switch {
	case err != nil:
		kind := errorKind(err)
		span.SetAttributes(attribute.String(attrError, kind))
		span.SetStatus(codes.Error, kind)
	case span.IsRecording():
		span.SetAttributes(routeAttributes(&rec)...)
		r.steps(ctx, &rec)
	}
	return rec, err
}

// steps makes the spans of the two steps afterwards, from their times: the core
// knows no traces.
func (r *tracedRouter) steps(ctx context.Context, rec *router.Record) {
	step := func(name string, from time.Time, took time.Duration, attrs ...attribute.KeyValue) {
		_, span := r.tracer.Start(ctx, name, trace.WithTimestamp(from), trace.WithAttributes(attrs...))
		span.End(trace.WithTimestamp(from.Add(took)))
	}
	s := &rec.Decision.Scores
	attrs := []attribute.KeyValue{attribute.String(attrCause, rec.ScoringError)}
	if rec.Decision.Scored {
		attrs = []attribute.KeyValue{attribute.String(attrLane, s.Lane), attribute.Int(attrInput, s.InputTokens)}
	}
	step(spanClassify, rec.Time, rec.Classify, attrs...)
	step(spanDecide, rec.Time.Add(rec.Total-rec.Decide), rec.Decide)
}

func routeAttributes(rec *router.Record) []attribute.KeyValue {
	d := &rec.Decision
	attrs := []attribute.KeyValue{
		attribute.String(attrDecision, rec.ID),
		attribute.String(attrModel, d.Chosen.Model.ID),
		attribute.String(attrTier, d.Chosen.Model.Tier.String()),
		attribute.String(attrReason, d.Reason.String()),
		attribute.String(attrPolicy, d.Policy),
		attribute.String(attrConfig, rec.ConfigDigest),
		attribute.String(attrBundle, rec.BundleDigest),
	}
	if d.Scored {
		domain, _ := d.Scores.Domain()
		attrs = append(attrs,
			attribute.Float64(attrComplexity, d.Scores.Complexity()),
			attribute.String(attrDomain, domain.String()),
			attribute.Int(attrTruncated, d.Scores.TruncatedTokens),
			attribute.Bool(attrOOD, d.Scores.OutOfDistribution),
		)
	}
	return attrs
}
