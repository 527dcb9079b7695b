package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.opentelemetry.io/otel"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/router"
)

type serveFlags struct {
	classifierFlags
	server          server.Config
	config          string
	logFormat       string
	logLevel        string
	journal         int
	classifyTimeout time.Duration
	pprof           bool
	swap            swapFlags
	complete        completeFlags
}

func serveCommand(w world) *cobra.Command {
	f := &serveFlags{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer Route and Complete over gRPC",
		Long: `Serve opens the model bundle, the routing config and the ledger, proves them, and answers. Route calls nobody; Complete calls the models
whose upstreams have a key. Callers, operators and scrapers have a listener each, all on loopback; another address for callers needs TLS and a client CA or
a token file.

SIGHUP reads the config and the bundle again, as a change of either does by itself; SIGTERM drains and stops. Traces are sent where OTEL_EXPORTER_OTLP_ENDPOINT says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), w, f) },
	}
	f.add(cmd)
	f.swap.add(cmd)
	f.complete.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.config, "config", "", "routing config (default: $WEIR_CONFIG, else the embedded one; see weir check)")
	flags.StringVar(&f.server.Listen, "listen", server.DefaultListen, "callers' address, HOST:PORT or unix:PATH")
	flags.StringVar(&f.server.AdminListen, "admin-listen", server.DefaultAdminListen, "operators' address, loopback or unix:PATH, or off")
	flags.StringVar(&f.server.MetricsListen, "metrics-listen", server.DefaultMetricsListen, "address of /metrics and /healthz, or off")
	flags.StringVar(&f.server.TLS.CertFile, "tls-cert", "", "PEM certificate chain")
	flags.StringVar(&f.server.TLS.KeyFile, "tls-key", "", "PEM private key")
	flags.StringVar(&f.server.TLS.ClientCAFile, "tls-client-ca", "", "PEM authorities of client certificates, which are then required")
	flags.StringVar(&f.server.TokenFile, "token-file", "", "bearer tokens, one a line")
	flags.IntVar(&f.server.MaxMessageBytes, "max-message-bytes", server.DefaultMessageBytes, "largest request")
	flags.Uint32Var(&f.server.MaxStreams, "max-streams", server.DefaultStreams, "open calls a connection")
	flags.IntVar(&f.server.MaxConnections, "max-connections", server.DefaultConnections, "open connections")
	flags.DurationVar(&f.server.RequestTimeout, "request-timeout", server.DefaultTimeout, "bound of a call whose client set no shorter deadline")
	flags.DurationVar(&f.server.ShutdownGrace, "shutdown-grace", server.DefaultGrace, "time that running calls get when the server stops")
	flags.DurationVar(&f.classifyTimeout, "classify-timeout", router.DefaultClassifyTimeout, "bound of scoring; beyond it the policy's unscored tier answers")
	flags.IntVar(&f.journal, "journal", 10_000, "decisions kept for GetDecision and ReportOutcome")
	flags.BoolVar(&f.server.NoAccessLog, "no-access-log", false, "log the server's own events only, not every call")
	flags.StringVar(&f.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	flags.BoolVar(&f.pprof, "pprof", false, "serve the Go profiler on the metrics address")
	return cmd
}

func newLogger(w world, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usageError("--log-level %q is unknown: use debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w.stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w.stderr, options)), nil
	default:
		return nil, usageError("--log-format %q is unknown: use text or json", format)
	}
}

// runServe wires the parts, serves until ctx ends, and takes them down in reverse.
func runServe(ctx context.Context, w world, f *serveFlags) (err error) {
	logger, err := newLogger(w, f.logFormat, f.logLevel)
	if err != nil {
		return err
	}
	if f.pprof && !loopback(f.server.MetricsListen) {
		return usageError("--pprof shows the process's memory: it needs a loopback --metrics-listen, not %q", f.server.MetricsListen)
	}
	if f.config == "" {
		f.config = w.getenv("WEIR_CONFIG")
	}
	rules, err := router.LoadConfig(f.config, w.getenv)
	if err != nil {
		return err
	}
	build := buildOf()
	tracing, err := telemetry.NewTracing(ctx, build, w.getenv)
	if err != nil {
		return err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { logger.Warn("traces", "error", err) }))
	defer func() {
		// A collector that is away must not turn a clean stop into a failure.
		if err := tracing.Shutdown(context.WithoutCancel(ctx)); err != nil {
			logger.Warn("traces were lost", "error", err)
		}
	}()
	metrics, err := telemetry.NewMetrics(prometheus.NewRegistry(), build)
	if err != nil {
		return err
	}
	o, sw, err := f.openServing(ctx, w, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	calls, err := f.complete.open(ctx, w, logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, calls.close()) }()
	r, store, err := newRouter(o.classifier, rules, sw.observe(metrics), f.journal, f.classifyTimeout, func(cfg *router.Config) {
		calls.join(cfg, observeCompletions(metrics, tracing, logger))
	})
	if err != nil {
		return err
	}
	adm := &admin{file: f.config, getenv: w.getenv, store: store, metrics: metrics, bundleSince: time.Now(), configSince: time.Now()}
	metrics.Serving(o.classifier.Info().Digest, rules.Digest)
	stopSwap, err := sw.start(ctx, o, adm)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stopSwap()) }()
	cfg := f.server
	cfg.Router, cfg.Store, cfg.Admin, cfg.Swap = sw.capture(tracing.Trace(r)), store, adm, sw.swapper()
	calls.serve(&cfg, r, sw.captureCompleted(tracing.TraceComplete(r)), f.complete.timeout)
	cfg.Logger, cfg.Observer, cfg.Metrics, cfg.Stats = logger, metrics, metrics.Handler(f.pprof), tracing.StatsHandler()
	cfg.Warm = func(ctx context.Context) error {
		_, err := o.classifier.Classify(ctx, "Are you ready to answer?")
		return err
	}
	cfg.Ready = func(a server.Addrs) {
		info := o.classifier.Info()
		logger.Info("serving", "version", version, "listen", addrText(a.Listen), "admin", addrText(a.Admin), "metrics", addrText(a.Metrics),
			"classifier", info.Name+" "+info.Version, "bundle_digest", info.Digest, "config", rules.Source, "config_digest", rules.Digest)
	}
	s, err := server.New(cfg)
	if err != nil {
		return err
	}
	stopFollowing, err := adm.follow(ctx, logger, sw)
	if err != nil {
		return err
	}
	defer stopFollowing()
	err = s.Run(ctx)
	logger.Info("stopped", "in_time", err == nil)
	return err
}

func addrText(a net.Addr) string {
	if a == nil {
		return server.Off
	}
	return a.String()
}

// loopback tells whether only this machine reaches the address.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || (ip != nil && ip.IsLoopback()))
}

// newRouter joins the parts of the core; more adds to its config.
func newRouter(c classifier.Classifier, rules *router.Rules, observer router.Observer, journalSize int, timeout time.Duration,
	more ...func(*router.Config),
) (*router.Router, *router.Store, error) {
	store, err := router.NewStore(c, rules)
	if err != nil {
		return nil, nil, err
	}
	journal, err := router.NewMemoryJournal(journalSize)
	if err != nil {
		return nil, nil, err
	}
	cfg := router.Config{
		Store: store, Journal: journal, Observer: observer, ClassifyTimeout: timeout, Now: time.Now,
		NewID: func() string { return uuid.Must(uuid.NewV7()).String() },
	}
	for _, f := range more {
		f(&cfg)
	}
	r, err := router.New(cfg)
	return r, store, err
}

func buildOf() telemetry.Build {
	b := telemetry.Build{Version: version, GoVersion: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	return b
}
