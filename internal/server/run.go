package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // callers may compress requests
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// The health services. The empty one stands for the whole server.
const (
	healthServer     = ""
	healthRouter     = "weir.v1.RouterService"
	healthClassifier = "classifier"
)

// hardStop bounds the wait for handlers after their contexts were cancelled.
const hardStop = time.Second

func (s *Server) setHealth(status healthv1.HealthCheckResponse_ServingStatus) {
	for _, name := range []string{healthServer, healthRouter, healthClassifier} {
		s.health.SetServingStatus(name, status)
	}
}

// serve owns the listeners and everything that runs on them.
func (s *Server) serve(ctx context.Context, ls *listeners) error {
	defer ls.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	callers := s.newCallers()
	admin := s.newAdmin()
	metrics := s.newMetrics()

	var wg sync.WaitGroup
	failed := make(chan error, 4) // one for each goroutine below: none ever blocks
	run := func(name string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	run("serve callers", func() error { return ignoreClosed(callers.Serve(ls.callers)) })
	if ls.admin != nil {
		run("serve admin", func() error { return ignoreClosed(admin.Serve(ls.admin)) })
	}
	if ls.metrics != nil {
		run("serve metrics", func() error { return ignoreClosed(metrics.Serve(ls.metrics)) })
	}
	run("warm up", func() error { return s.warm(ctx) })
	if s.cfg.Ready != nil {
		s.cfg.Ready(ls.addrs())
	}

	var errs []error
	select {
	case <-ctx.Done():
	case err := <-failed:
		errs = append(errs, err)
	}
	cancel()
	errs = append(errs, s.stop(callers, admin, metrics))
	wg.Wait()
	close(failed)
	for err := range failed {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// ignoreClosed takes a stop for no fault, also where it came before the first
// connection could be accepted: only this server stops its own.
func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// warm makes the classifier ready and then says that the server is.
func (s *Server) warm(ctx context.Context) error {
	if s.cfg.Warm != nil {
		if err := s.cfg.Warm(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // stopped while warming up: no fault
			}
			return err
		}
	}
	// After a stop has begun, the health server ignores this.
	s.setHealth(healthv1.HealthCheckResponse_SERVING)
	return nil
}

// stop takes the server out of service in the order that loses no call.
func (s *Server) stop(callers, admin *grpc.Server, metrics *http.Server) error {
	s.health.Shutdown() // NOT_SERVING, for good
	if s.cfg.DrainDelay > 0 {
		time.Sleep(s.cfg.DrainDelay)
	}
	s.watchers.drain()
	deadline := time.Now().Add(s.cfg.ShutdownGrace)
	var wg sync.WaitGroup
	var errs [3]error
	wg.Go(func() { errs[0] = stopGRPC("callers", callers, deadline) })
	wg.Go(func() { errs[1] = stopGRPC("admin", admin, deadline) })
	wg.Wait()
	// Scrapers come last, so that the end can be seen.
	ctx, cancel := context.WithTimeout(context.Background(), hardStop)
	defer cancel()
	if err := metrics.Shutdown(ctx); err != nil {
		errs[2] = errors.Join(fmt.Errorf("stop metrics: %w", err), metrics.Close())
	}
	return errors.Join(errs[:]...)
}

// stopGRPC waits for running calls until the deadline and then cancels them.
func stopGRPC(name string, g *grpc.Server, deadline time.Time) error {
	graceful := make(chan struct{})
	go func() {
		defer close(graceful)
		g.GracefulStop()
	}()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-graceful:
		return nil
	case <-timer.C:
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		g.Stop()
	}()
	hard := time.NewTimer(hardStop)
	defer hard.Stop()
	select {
	case <-stopped:
		<-graceful
		return fmt.Errorf("stop %s: calls still ran at the end of the grace and were cancelled", name)
	case <-hard.C:
		return fmt.Errorf("stop %s: a handler did not end within %s of its cancellation", name, hardStop)
	}
}

// newCallers makes the server of RouterService.
func (s *Server) newCallers() *grpc.Server {
	opts := []grpc.ServerOption{
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
		grpc.ForceServerCodecV2(newFrameCodec()),
		grpc.InTapHandle(s.bound),
		grpc.MaxRecvMsgSize(s.cfg.MaxMessageBytes),
		grpc.MaxConcurrentStreams(s.cfg.MaxStreams),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 15 * time.Minute,
			// Balancers that see connections only spread the load anew at each one's end.
			MaxConnectionAge: 30 * time.Minute,
			// An answer that has begun is never cut by its connection's age.
			MaxConnectionAgeGrace: max(5*time.Minute, s.cfg.CompleteTimeout+time.Minute),
			Time:                  2 * time.Minute,
			Timeout:               20 * time.Second,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
	}
	if s.cfg.Stats != nil {
		opts = append(opts, grpc.StatsHandler(s.cfg.Stats))
	}
	if c := s.tlsConfig(); c != nil {
		opts = append(opts, grpc.Creds(credentials.NewTLS(c)))
	}
	g := grpc.NewServer(opts...)
	g.RegisterService(admit(weirv1.RouterService_ServiceDesc, s.tokens), &routerService{
		router: s.cfg.Router, store: s.cfg.Store, usage: s.cfg.Usage, completer: s.cfg.Completer, health: s.cfg.Health, completeTimeout: s.cfg.CompleteTimeout,
	})
	healthv1.RegisterHealthServer(g, s.health)
	reflection.Register(g)
	return g
}

// maxHeaderBytes bounds a call's metadata.
const maxHeaderBytes = 16 << 10

// newAdmin makes the server of AdminService. Its health is its own: it serves as
// long as it listens.
func (s *Server) newAdmin() *grpc.Server {
	g := grpc.NewServer(
		grpc.UnaryInterceptor(s.adminUnary),
		grpc.StreamInterceptor(s.adminStream),
		grpc.ForceServerCodecV2(newFrameCodec()),
		grpc.InTapHandle(s.bound),
		grpc.MaxRecvMsgSize(64<<10), // no admin request holds more than a name
		grpc.MaxConcurrentStreams(16),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.WaitForHandlers(true),
	)
	g.RegisterService(admit(weirv1.AdminService_ServiceDesc, nil), &adminService{store: s.cfg.Store, admin: s.cfg.Admin, swap: s.cfg.Swap})
	healthv1.RegisterHealthServer(g, health.NewServer())
	reflection.Register(g)
	return g
}

func (s *Server) newMetrics() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	if s.cfg.Metrics != nil {
		mux.Handle("/", s.cfg.Metrics)
	}
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}
