package upstreamtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirhq/weir/router"
)

// Request is what the provider was asked.
type Request struct {
	// Number counts requests from 1.
	Number  int
	Dialect string
	// Model is the model's name, from the body or, at Gemini, from the path.
	Model  string
	Path   string
	Query  string
	Header http.Header
	Body   []byte
}

// Provider is the fake. It is an http.Handler, safe for concurrent use. Make it
// with New or Start.
type Provider struct {
	mu          sync.Mutex
	script      func(Request) Answer
	requests    []Request
	count       int
	open        int
	disconnects int
	changed     chan struct{}
	forgetful   bool

	server   *http.Server
	listener net.Listener
	served   chan struct{}
}

// New returns a provider that answers "ok" and listens nowhere: use it as a
// handler.
func New() *Provider {
	return &Provider{changed: make(chan struct{}), script: func(Request) Answer {
		return Answer{Text: []string{"ok"}, Usage: &router.Usage{Input: 3, Output: 1}}
	}}
}

// Start returns a provider that listens on the address, such as "127.0.0.1:0".
// Close it.
func Start(address string) (*Provider, error) {
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("start the fake provider: %w", err)
	}
	p := New()
	p.listener, p.served = l, make(chan struct{})
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(p.served)
		_ = p.server.Serve(l) // it returns when Close is called, and then says only that
	}()
	return p, nil
}

// Close ends all connections and waits for the listener's goroutine. A provider
// of New needs none.
func (p *Provider) Close() error {
	if p.server == nil {
		return nil
	}
	err := p.server.Close()
	<-p.served
	for deadline := time.Now().Add(5 * time.Second); p.Open() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // handlers see that their connection is gone
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the fake provider: %w", err)
	}
	return nil
}

// URL is where a provider of Start listens, without a path.
func (p *Provider) URL() string { return "http://" + p.listener.Addr().String() }

// Upstream is a catalog's upstream that leads to a provider of Start. It has no
// key.
func (p *Provider) Upstream(dialect string) *router.Upstream {
	return &router.Upstream{ID: "fake-" + dialect, Dialect: dialect, BaseURL: p.URL(), Callable: true}
}

// Script sets what is answered from now on. It is called once a request, by
// many goroutines at once.
func (p *Provider) Script(f func(Request) Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = f
}

// Always answers every request so.
func (p *Provider) Always(a Answer) { p.Script(func(Request) Answer { return a }) }

// Requests returns what was asked so far, in order of arrival.
func (p *Provider) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Count is how many requests came.
func (p *Provider) Count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Forget keeps no requests from now on, for a provider under load; they are
// still counted.
func (p *Provider) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests, p.forgetful = nil, true
}

// Open is how many requests are being answered.
func (p *Provider) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// Disconnects is how many requests the client left before their answer's end.
func (p *Provider) Disconnects() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.disconnects
}

// AwaitDisconnects waits until n clients have left, or ctx ends.
func (p *Provider) AwaitDisconnects(ctx context.Context, n int) error {
	for {
		p.mu.Lock()
		have, changed := p.disconnects, p.changed
		p.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d clients have left: %w", have, n, ctx.Err())
		}
	}
}

func (p *Provider) left() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.disconnects++
	close(p.changed)
	p.changed = make(chan struct{})
}

// dialectOf tells what is spoken by the path.
func dialectOf(path string) (dialect, model string) {
	switch {
	case strings.HasSuffix(path, "/chat/completions"):
		return "openai", ""
	case strings.HasSuffix(path, "/messages"):
		return "anthropic", ""
	case strings.HasSuffix(path, ":streamGenerateContent"):
		_, model, _ = strings.Cut(path, "/models/")
		return "gemini", strings.TrimSuffix(model, ":streamGenerateContent")
	default:
		return "", ""
	}
}

// ServeHTTP implements http.Handler.
func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	dialect, model := dialectOf(r.URL.Path)
	if dialect == "" || r.Method != http.MethodPost {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 32<<20))
	if err != nil {
		return
	}
	var named struct {
		Model string `json:"model"`
	}
	if json.Unmarshal(body, &named) == nil && named.Model != "" {
		model = named.Model
	}
	req := Request{Dialect: dialect, Model: model, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: body}
	p.mu.Lock()
	p.count++
	req.Number = p.count
	if !p.forgetful {
		p.requests = append(p.requests, req)
	}
	p.open++
	script := p.script
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}()
	a := script(req)
	if !p.play(r.Context(), w, dialect, &a) {
		p.left()
	}
}

// play sends the answer. It returns false when the client left first.
func (p *Provider) play(ctx context.Context, w http.ResponseWriter, dialect string, a *Answer) bool {
	if !wait(ctx, a.FirstByte) {
		return false
	}
	if a.Fault.Kind == Status {
		w.Header().Set("Content-Type", "application/json")
		if a.Fault.RetryAfter != "" {
			w.Header().Set("Retry-After", a.Fault.RetryAfter)
		}
		w.WriteHeader(a.Fault.Status)
		body := []byte(a.Fault.Body)
		if len(body) == 0 {
			body = errorBody(dialect, a.Fault.Status)
		}
		_, err := w.Write(body)
		return err == nil
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w).Flush
	w.WriteHeader(http.StatusOK)
	if flush() != nil {
		return false
	}
	events, struck := strike(dialect, a)
	for _, e := range events {
		if !wait(ctx, a.Delay) {
			return false
		}
		if _, err := w.Write(e); err != nil { //nolint:gosec // an event stream of the script's is no page
			return false
		}
		if flush() != nil {
			return false
		}
	}
	if !struck {
		return true
	}
	return p.end(ctx, w, a.Fault.Kind)
}

// strike applies a fault to the events: what is still sent, and whether the
// connection must be treated badly after it.
func strike(dialect string, a *Answer) (events [][]byte, struck bool) {
	f := a.Fault
	if events = a.rendered[dialect]; events == nil || f.Kind != 0 {
		events = Events(dialect, a)
	}
	if f.Kind == NoTerminator {
		return events[:len(events)-1], false
	}
	if f.Kind == 0 || f.At < 0 || f.At >= len(bytes.Join(events, nil)) {
		return events, false
	}
	at, i := f.At, 0
	for at >= len(events[i]) {
		at -= len(events[i])
		i++
	}
	switch f.Kind {
	case BadJSON:
		// The JSON's last byte: cutting it breaks every value but a number.
		broken := bytes.TrimSuffix(events[i], []byte("\n\n"))
		events[i] = append(slices.Clone(broken[:len(broken)-1]), "\n\n"...)
		return events, false
	case InBandError:
		return append(events[:i:i], inBandError(dialect)), false
	default:
		return append(events[:i:i], events[i][:at]), true
	}
}

// end treats the connection as the fault says.
func (p *Provider) end(ctx context.Context, w http.ResponseWriter, kind FaultKind) bool {
	switch kind {
	case Stall:
		<-ctx.Done()
		return false
	case Drop, Reset:
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return true
		}
		if tcp, ok := conn.(*net.TCPConn); ok && kind == Reset {
			_ = tcp.SetLinger(0) // without it the reset is a close, which is a fault too
		}
		_ = conn.Close() // that is the point
		return true
	default:
		return true
	}
}

// wait returns false when the client left meanwhile.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
