package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

const (
	requestIDKey  = "x-request-id"
	maxRequestID  = 64
	healthPrefix  = "/grpc.health.v1.Health/"
	reflectPrefix = "/grpc.reflection."
	ownPrefix     = "/weir.v1."
	bearerScheme  = "bearer "
)

// unary is the one interceptor of callers' unary calls: request id,
// authentication, recovery, the status table, metrics and the access log. One,
// because each costs every call.
func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return s.call(ctx, req, info.FullMethod, s.tokens, handler)
}

// adminUnary is the same without authentication: the listener is local.
func (s *Server) adminUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	return s.call(ctx, req, info.FullMethod, nil, handler)
}

func (s *Server) call(ctx context.Context, req any, method string, tokens *tokenFile, handler grpc.UnaryHandler) (any, error) {
	start := time.Now()
	id := requestID(ctx)
	// The error would mean that the header was sent already: it was not.
	_ = grpc.SetHeader(ctx, metadata.MD{requestIDKey: []string{id}})
	err := authenticate(ctx, method, tokens, start)
	var resp any
	if err == nil {
		resp, err = guarded(ctx, req, handler)
	}
	return s.finish(ctx, finished{id: id, method: method, start: start, resp: resp, err: err})
}

// stream is the interceptor of callers' streams.
func (s *Server) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.callStream(srv, ss, info.FullMethod, s.tokens, handler)
}

func (s *Server) adminStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	return s.callStream(srv, ss, info.FullMethod, nil, handler)
}

func (s *Server) callStream(srv any, ss grpc.ServerStream, method string, tokens *tokenFile, handler grpc.StreamHandler) error {
	start := time.Now()
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	if isInfrastructure(method) {
		// Watchers of health never end by themselves; a stop must not wait for them.
		defer s.watchers.add(cancel)()
	}
	id := requestID(ctx)
	_ = ss.SetHeader(metadata.MD{requestIDKey: []string{id}})
	err := authenticate(ctx, method, tokens, start)
	if err == nil {
		_, err = guarded(ctx, nil, func(ctx context.Context, _ any) (any, error) {
			return nil, handler(srv, &streamWithContext{ServerStream: ss, ctx: ctx})
		})
	}
	_, err = s.finish(ctx, finished{id: id, method: method, start: start, err: err})
	return err
}

type streamWithContext struct {
	grpc.ServerStream
	ctx context.Context
}

// Context ends with the call, and for watchers when the server stops.
func (s *streamWithContext) Context() context.Context { return s.ctx }

// RecvMsg is to streams what admit is to other calls: a message that cannot be decoded
// is the caller's fault.
func (s *streamWithContext) RecvMsg(m any) error {
	f := frame{into: m}
	if err := s.ServerStream.RecvMsg(&f); err != nil {
		return err
	}
	if f.err != nil {
		return malformedError(f.err)
	}
	return nil
}

// watchers holds what ends the streams of health and reflection. It is safe for
// concurrent use.
type watchers struct {
	mu      sync.Mutex
	cancels map[int]context.CancelFunc
	next    int
	drained bool
}

// add registers a stream and returns what takes it off the list.
func (w *watchers) add(cancel context.CancelFunc) (remove func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.drained {
		cancel()
	}
	if w.cancels == nil {
		w.cancels = map[int]context.CancelFunc{}
	}
	key := w.next
	w.next++
	w.cancels[key] = cancel
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.cancels, key)
	}
}

// drain ends every stream, and those that come later.
func (w *watchers) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drained = true
	for _, cancel := range w.cancels {
		cancel()
	}
}

// isInfrastructure tells health and reflection from Weir's own services.
func isInfrastructure(method string) bool {
	return strings.HasPrefix(method, healthPrefix) || strings.HasPrefix(method, reflectPrefix)
}

// panicError is a handler's panic. It holds no value that a panic was raised
// with: such a value may hold a prompt.
type panicError struct {
	kind  string
	stack []byte
}

func (e *panicError) Error() string { return "panic: " + e.kind }

// guarded runs a handler; a panic becomes an error and the server lives.
func guarded(ctx context.Context, req any, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		kind := fmt.Sprintf("%T", p)
		var re runtime.Error
		if e, ok := p.(error); ok && errors.As(e, &re) {
			kind = re.Error() // an index, a nil: nothing of a request
		}
		resp, err = nil, &panicError{kind: kind, stack: debug.Stack()}
	}()
	return handler(ctx, req)
}

func authenticate(ctx context.Context, method string, tokens *tokenFile, now time.Time) error {
	if tokens == nil || strings.HasPrefix(method, healthPrefix) {
		return nil
	}
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return errTokenMissing
	}
	scheme, token := values[0], ""
	if len(scheme) > len(bearerScheme) {
		scheme, token = scheme[:len(bearerScheme)], scheme[len(bearerScheme):]
	}
	if len(values) > 1 || !strings.EqualFold(scheme, bearerScheme) || !tokens.admits(token, now) {
		return errTokenInvalid
	}
	return nil
}

// requestID is the caller's, where it is harmless to log and return, else new.
func requestID(ctx context.Context) string {
	if values := metadata.ValueFromIncomingContext(ctx, requestIDKey); len(values) == 1 && isRequestID(values[0]) {
		return values[0]
	}
	return newRequestID()
}

func newRequestID() string {
	var b [16]byte
	for i := 0; i < len(b); i += 8 {
		n := rand.Uint64() //nolint:gosec // an id to find a line by, no secret
		for j := range 8 {
			b[i+j] = byte(n >> (8 * j))
		}
	}
	return hex.EncodeToString(b[:])
}

func isRequestID(s string) bool {
	if s == "" || len(s) > maxRequestID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}
