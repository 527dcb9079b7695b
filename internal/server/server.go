// Package server is the gRPC face of Weir and the life of its listeners.
//
// It translates and decides nothing: a request is checked (validate.go), turned
// into the core's types (convert.go), given to the Router, and the answer or
// the error (status.go) is turned back. Callers, operators and scrapers each
// have a listener of their own, all of them on loopback unless the config says
// otherwise; callers from elsewhere need TLS and either a client certificate or
// a bearer token.
//
// A Server is made by New, which checks and starts nothing, and lives in Run,
// which blocks and has ended every goroutine when it returns. No text of a
// prompt, metadata value, session id or token reaches a log line or an error.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/stats"

	"github.com/weirhq/weir/router"
)

// Router decides. *router.Router is one. Its methods are safe for concurrent use.
type Router interface {
	// Route decides; see router.Router.Route for the errors.
	Route(ctx context.Context, req *router.Request) (router.Record, error)
	// Decision returns a kept decision; router.ErrUnknownDecision wrapped.
	Decision(id string) (router.Record, []router.Outcome, error)
	// ReportOutcome records an outcome; duplicate when it was recorded before.
	ReportOutcome(id, key string, o router.Outcome) (duplicate bool, err error)
}

// Admin is what an operator may change. Its methods are safe for concurrent use.
type Admin interface {
	// ReloadConfig reads the config file again, checks it whole and publishes
	// it. It returns the digest that decides afterwards and whether it is
	// another. Errors: *router.ConfigError wrapped when the file has faults,
	// ErrConfigEmbedded when there is no file; the old config keeps deciding.
	ReloadConfig(ctx context.Context) (digest string, changed bool, err error)
	// Since tells since when the serving config and the serving bundle decide.
	Since() (config, bundle time.Time)
}

// ErrConfigEmbedded means that the embedded config decides: there is no file
// to read again.
var ErrConfigEmbedded = errors.New("the embedded config decides")

// Observer is told of every RPC that reached a handler. It must not block.
type Observer interface {
	// RPC reports one call: its full method name, such as
	// "/weir.v1.RouterService/Route", its code and how long it took.
	RPC(method string, code codes.Code, d time.Duration)
}

// TLS names PEM files. They are read again when they change; a changed file that
// is faulty is logged and the last good one kept.
type TLS struct {
	// CertFile and KeyFile are the server's chain and key; both or neither.
	CertFile, KeyFile string
	// ClientCAFile makes a client certificate of one of these authorities
	// required. It needs CertFile.
	ClientCAFile string
}

// The defaults of Config.
const (
	DefaultListen        = "127.0.0.1:8080"
	DefaultAdminListen   = "127.0.0.1:8081"
	DefaultMetricsListen = "127.0.0.1:9090"
	DefaultMessageBytes  = 4 << 20
	DefaultStreams       = 1000
	DefaultConnections   = 1024
	DefaultTimeout       = 10 * time.Second
	DefaultGrace         = 30 * time.Second
	DefaultDrainDelay    = 200 * time.Millisecond
)

// Off switches the admin or the metrics listener off.
const Off = "off"

// Config is what a Server is made of. Router and Store are required; the zero
// value of everything else is its default.
type Config struct {
	Router Router
	// Store is where the catalog, the config and the classifier's identity are
	// shown from.
	Store *router.Store
	// Completer answers Complete; nil answers it with UNIMPLEMENTED.
	Completer Completer
	// Health tells ListModels what was seen of a model's deployments, in the
	// card's order; nil where nothing is called.
	Health func(*router.Model) []router.DeploymentHealth
	// Usage answers Usage; nil answers it with UNIMPLEMENTED. An interface that
	// holds a nil pointer is not nil.
	Usage UsageSource
	// Admin serves ReloadConfig; nil answers it with UNIMPLEMENTED.
	Admin Admin
	// Swap swaps the model bundle; nil answers with UNIMPLEMENTED.
	Swap Swapper
	// Warm makes the classifier ready. Until it has returned nil, health is
	// NOT_SERVING; an error ends Run. nil means ready from the start.
	Warm func(ctx context.Context) error

	// Listen is for callers: "HOST:PORT", or "unix:PATH" for a socket of mode
	// 0600. An address that is not loopback needs TLS and a client CA or a
	// token file.
	Listen string
	// AdminListen is for operators: loopback or unix:PATH only; Off for none.
	AdminListen string
	// MetricsListen serves HTTP: Metrics under /metrics and /healthz; Off for
	// none. It holds no secrets, so any address is allowed.
	MetricsListen string
	TLS           TLS
	// TokenFile holds the bearer tokens, one a line, of 16 to 512 bytes; empty
	// lines and lines that start with # are skipped. It is read again when it
	// changes. "" for none. Health is served without a token.
	TokenFile string

	// MaxMessageBytes bounds a request, after decompression.
	MaxMessageBytes int
	// MaxStreams bounds the calls that one connection has open.
	MaxStreams uint32
	// MaxConnections bounds the connections on Listen; more wait to be accepted.
	MaxConnections int
	// RequestTimeout bounds a unary call, the reading of its body included, whose
	// client set no shorter deadline.
	RequestTimeout time.Duration
	// CompleteTimeout bounds a completion whose client set no shorter deadline.
	CompleteTimeout time.Duration
	// DrainDelay is how long health says NOT_SERVING before calls are refused;
	// negative for none.
	DrainDelay time.Duration
	// ShutdownGrace bounds the time that running calls get to end.
	ShutdownGrace time.Duration

	// Logger gets one line a call; nil discards. NoAccessLog keeps the lines of
	// the server's own faults only.
	Logger      *slog.Logger
	NoAccessLog bool
	// Observer counts calls; nil for none.
	Observer Observer
	// Metrics answers what comes to MetricsListen, but for /healthz; nil answers
	// with 404.
	Metrics http.Handler
	// Stats traces calls; nil for none, which costs nothing.
	Stats stats.Handler
	// Ready is called once, when every listener accepts.
	Ready func(Addrs)
}

// Addrs is where a server listens. Admin and Metrics are nil when they are off.
type Addrs struct {
	Listen, Admin, Metrics net.Addr
}

// Server serves. Make one by New; Run it once.
type Server struct {
	cfg    Config
	tls    *tlsFiles
	tokens *tokenFile
	health *health.Server
	// watchers are ended when the server stops.
	watchers watchers
}

// New checks the whole config, files included, and joins what is wrong with it.
// It starts nothing.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	s := &Server{cfg: cfg, health: health.NewServer()}
	s.setHealth(healthv1.HealthCheckResponse_NOT_SERVING)
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// Run listens and serves until ctx ends or a listener fails. Then health says
// NOT_SERVING, after DrainDelay no call is accepted any more, running calls get
// ShutdownGrace to end and are cancelled after it. Every goroutine has ended
// when Run returns; it returns nil when ctx ended and all calls did in time.
func (s *Server) Run(ctx context.Context) error {
	ls, err := s.listen()
	if err != nil {
		return err
	}
	return s.serve(ctx, ls)
}
