package upstream

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/weirhq/weir/router"
)

// Causes of a context that this package ended.
var (
	errFirstByte = errors.New("no first byte in time")
	errIdle      = errors.New("no next byte in time")
	errDone      = errors.New("the call is over")
)

// stream is one call.
type stream struct {
	client   *Client
	call     *router.Call
	upstream *router.Upstream
	left     bool // the consumer has left: yield must not be called again
}

// run makes the call. It yields at most one error, last.
func (s *stream) run(ctx context.Context, yield func(router.Chunk, error) bool) {
	emit := func(c router.Chunk) bool {
		if !s.left && !yield(c, nil) {
			s.left = true
		}
		return !s.left
	}
	if err := s.attempt(ctx, emit); err != nil && !s.left {
		yield(router.Chunk{}, err)
	}
}

func (s *stream) firstByte() time.Duration {
	return cmp.Or(s.call.Timeouts.FirstContent, s.client.cfg.FirstByteTimeout)
}

func (s *stream) idle() time.Duration {
	return cmp.Or(s.call.Timeouts.Idle, s.client.cfg.IdleTimeout)
}

func (s *stream) fail(kind router.FailureKind, status int, cause error) error {
	return &router.UpstreamError{Kind: kind, Upstream: s.upstream.ID, Status: status, Err: cause}
}

func (s *stream) attempt(ctx context.Context, emit func(router.Chunk) bool) error {
	speak, err := dialectOf(s.upstream.Dialect)
	if err != nil {
		return s.fail(router.FailureBadRequest, 0, err)
	}
	if err := context.Cause(ctx); err != nil {
		return s.broken(ctx, 0, err)
	}
	key, err := s.client.key(s.upstream)
	if err != nil {
		return s.fail(router.FailureAuth, 0, err)
	}
	out, err := speak.request(s.call, key)
	if err != nil {
		return s.fail(router.FailureBadRequest, 0, err)
	}
	body, err := json.Marshal(out.body)
	if err != nil {
		// The text of a marshalling error may hold what it failed on.
		return s.fail(router.FailureBadRequest, 0, errors.New("the request does not encode as JSON: check schemas and numbers"))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(errDone)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, out.url.String(), bytes.NewReader(body))
	if err != nil {
		return s.fail(router.FailureBadRequest, 0, errors.New("the upstream's base_url and the deployment's name make no address: correct the config"))
	}
	req.Header = out.header
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "weir")

	transport, err := s.client.transport(s.call)
	if err != nil {
		return s.fail(router.FailureBadRequest, 0, err)
	}
	watch := newWatch(cancel, s.firstByte(), s.idle())
	defer watch.stop()
	watch.arm()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return s.broken(ctx, 0, err)
	}
	defer func() { _ = resp.Body.Close() }() // what was to be read has been
	watch.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		return s.refused(ctx, resp, watch, speak)
	}
	if err := checkHeaders(resp.Header); err != nil {
		return s.fail(router.FailureProtocol, resp.StatusCode, err)
	}
	return s.read(ctx, resp, watch, speak.decoder(), emit)
}

func checkHeaders(h http.Header) error {
	if enc := h.Get("Content-Encoding"); enc != "" && enc != "identity" {
		return errors.New("the answer is compressed, which was not asked for")
	}
	if kind, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || kind != "text/event-stream" {
		return errors.New("the answer is no event stream: is base_url the address of an API that streams?")
	}
	return nil
}

// read passes on an answer's events until it is whole or broken.
func (s *stream) read(ctx context.Context, resp *http.Response, w *watch, d decoder, emit func(router.Chunk) bool) error {
	r := newReader(w, s.client.cfg.MaxStreamBytes)
	switch err := follow(r, d, emit); {
	case err == nil, errors.Is(err, errLeft):
		return nil
	case errors.Is(err, errWhole):
		w.drain(r)
		return nil
	default:
		return s.broken(ctx, resp.StatusCode, err)
	}
}

// follow decodes a stream: nil at a clean end of a whole answer, errWhole when
// its terminator came first, errLeft when emit said to stop.
func follow(r *reader, d decoder, emit func(router.Chunk) bool) error {
	for {
		ev, err := r.next()
		if errors.Is(err, io.EOF) {
			return d.end(emit)
		}
		if err == nil {
			err = d.event(ev, emit)
		}
		if err != nil {
			return err
		}
	}
}

// refused reads an answer that is an error.
func (s *stream) refused(ctx context.Context, resp *http.Response, w *watch, speak dialect) error {
	if resp.StatusCode < 400 {
		return s.fail(router.FailureProtocol, resp.StatusCode, errors.New("neither an answer nor an error; redirects are not followed"))
	}
	body, _ := io.ReadAll(io.LimitReader(w, maxErrorBody)) // half a body is better than none
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return s.broken(ctx, resp.StatusCode, context.Canceled)
	}
	f := speak.failure(body)
	f.status = resp.StatusCode
	wait := retryAfter(resp.Header, s.client.cfg.Now())
	if wait == 0 {
		wait = f.wait
	}
	return &router.UpstreamError{
		Kind: f.kind(), Upstream: s.upstream.ID, Status: resp.StatusCode,
		RetryAfter: min(wait, s.client.cfg.MaxRetryAfter), Err: f.cause(),
	}
}

// broken says why a call ended early. Causes from net and net/http are told in
// words of this package: theirs may hold addresses and pieces of an answer.
func (s *stream) broken(ctx context.Context, status int, err error) error {
	var f *fault
	if errors.As(err, &f) {
		return &router.UpstreamError{
			Kind: f.kind(), Upstream: s.upstream.ID, Status: f.status,
			RetryAfter: min(f.wait, s.client.cfg.MaxRetryAfter), Err: f.cause(),
		}
	}
	var p *protocolError
	if errors.As(err, &p) {
		return s.fail(router.FailureProtocol, status, p)
	}
	cause := context.Cause(ctx)
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(cause, errFirstByte):
		return s.fail(router.FailureTimeout, status, fmt.Errorf("%w: %s", errFirstByte, s.firstByte()))
	case errors.Is(cause, errIdle):
		return s.fail(router.FailureTimeout, status, fmt.Errorf("%w: %s", errIdle, s.idle()))
	case errors.Is(cause, context.DeadlineExceeded):
		return s.fail(router.FailureTimeout, status, context.DeadlineExceeded)
	case cause != nil:
		return s.fail(router.FailureCancelled, status, context.Canceled)
	case errors.Is(err, errAddressRefused):
		return s.fail(router.FailureNetwork, status, unwrapTo(err, errAddressRefused))
	case errors.Is(err, errEventTooLong), errors.Is(err, errStreamTooLong):
		return s.fail(router.FailureProtocol, status, err)
	case errors.As(err, &dns):
		return s.fail(router.FailureNetwork, status, errors.New("the host's name does not resolve"))
	case errors.Is(err, syscall.ECONNREFUSED):
		return s.fail(router.FailureNetwork, status, syscall.ECONNREFUSED)
	case errors.Is(err, syscall.ECONNRESET):
		return s.fail(router.FailureNetwork, status, syscall.ECONNRESET)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return s.fail(router.FailureNetwork, status, io.ErrUnexpectedEOF)
	case errors.As(err, &op) && op.Timeout():
		return &router.UpstreamError{
			Kind: router.FailureTimeout, Upstream: s.upstream.ID, Status: status, Unsent: op.Op == "dial",
			Err: errors.New("no connection in time"),
		}
	case errors.As(err, &op):
		return s.fail(router.FailureNetwork, status, errors.New(op.Op+" failed"))
	default:
		return s.fail(router.FailureNetwork, status, errors.New("the connection broke, or its TLS or HTTP is not in order"))
	}
}

// unwrapTo returns the outermost error in the chain whose own text starts with
// the target's: what net wraps around it is left out.
func unwrapTo(err, target error) error {
	for err != nil {
		next := errors.Unwrap(err)
		if next == nil || errors.Is(next, target) && errors.Unwrap(next) == nil {
			return err
		}
		err = next
	}
	return target
}

// watch reads a body and ends the call when nothing comes. Its clock runs only
// while somebody waits for bytes: a slow consumer is not a stalled provider.
type watch struct {
	body      io.Reader
	cancel    context.CancelCauseFunc
	timer     *time.Timer
	cause     atomic.Pointer[error]
	firstByte time.Duration
	idle      time.Duration
	got       bool
}

func newWatch(cancel context.CancelCauseFunc, firstByte, idle time.Duration) *watch {
	w := &watch{cancel: cancel, firstByte: firstByte, idle: idle}
	first := errFirstByte
	w.cause.Store(&first)
	w.timer = time.AfterFunc(time.Hour, func() { w.cancel(*w.cause.Load()) })
	w.timer.Stop()
	return w
}

// arm starts the clock for the first byte, headers included.
func (w *watch) arm() { w.timer.Reset(w.firstByte) }

func (w *watch) stop() { w.timer.Stop() }

// Read implements io.Reader.
func (w *watch) Read(p []byte) (int, error) {
	if w.got {
		w.timer.Reset(w.idle)
	}
	n, err := w.body.Read(p)
	if n > 0 && !w.got {
		w.got = true
		silent := errIdle
		w.cause.Store(&silent)
	}
	if w.got {
		w.timer.Stop()
	}
	return n, err
}

// drain reads what little follows the terminator, so that the connection can be
// used again. A peer that does not end its body costs a moment and its
// connection, never the answer.
func (w *watch) drain(r *reader) {
	w.timer.Reset(drainTime)
	defer w.timer.Stop()
	_, _ = io.CopyN(io.Discard, w.body, min(drainBytes, max(r.left, 0))) // the answer is whole whatever comes
}

const (
	drainTime  = 50 * time.Millisecond
	drainBytes = 16 << 10
)
