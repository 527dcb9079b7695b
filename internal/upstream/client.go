package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/weirhq/weir/router"
)

// Config is how providers are called. The zero value is ready to use.
type Config struct {
	// Getenv and ReadFile read keys, at every call; nil means the process's
	// environment and file system. Both must be safe for concurrent use.
	Getenv   func(string) string
	ReadFile func(string) ([]byte, error)

	// What follows counts where a call sets no timeout of its own.

	// ConnectTimeout bounds DNS, TCP and TLS each; 0 means 10 s.
	ConnectTimeout time.Duration
	// FirstByteTimeout bounds the time from sending the request to the first
	// byte of the answer's body; 0 means 2 minutes: some models think first.
	FirstByteTimeout time.Duration
	// IdleTimeout bounds the silence between two bytes; 0 means 60 s. Time that
	// the consumer of the stream takes does not count.
	IdleTimeout time.Duration

	// MaxStreamBytes bounds an answer, all bytes of its stream counted; 0 means
	// 64 MiB. A line or event above 1 MiB is refused in any case.
	MaxStreamBytes int64
	// MaxRetryAfter caps what a provider may ask to be left alone; 0 means 10
	// minutes.
	MaxRetryAfter time.Duration

	// Now is the clock for Retry-After dates; nil means time.Now.
	Now func() time.Time
}

// Client calls providers. It implements router.Caller and is safe for
// concurrent use.
type Client struct {
	cfg Config

	mu sync.Mutex
	// roads are used without an http.Client around them, which would look at
	// redirects and cookies.
	roads map[road]*http.Transport
}

// road is how an upstream is reached: what differs in it shares no connection.
type road struct {
	allowPrivate bool
	proxy        string
	connect      time.Duration
}

// maxRoads bounds what reloads of configs can gather.
const maxRoads = 64

var _ router.Caller = (*Client)(nil)

// New checks the config and starts nothing: connections are made by calls.
func New(cfg Config) (*Client, error) {
	var faults []error
	for _, d := range [...]struct {
		name string
		at   *time.Duration
		or   time.Duration
	}{
		{"ConnectTimeout", &cfg.ConnectTimeout, 10 * time.Second},
		{"FirstByteTimeout", &cfg.FirstByteTimeout, 2 * time.Minute},
		{"IdleTimeout", &cfg.IdleTimeout, time.Minute},
		{"MaxRetryAfter", &cfg.MaxRetryAfter, 10 * time.Minute},
	} {
		switch {
		case *d.at < 0:
			faults = append(faults, fmt.Errorf("%s is %s: use a positive duration, or 0 for %s", d.name, *d.at, d.or))
		case *d.at == 0:
			*d.at = d.or
		}
	}
	switch {
	case cfg.MaxStreamBytes < 0:
		faults = append(faults, fmt.Errorf("MaxStreamBytes is %d: use a positive number of bytes, or 0 for 64 MiB", cfg.MaxStreamBytes))
	case cfg.MaxStreamBytes == 0:
		cfg.MaxStreamBytes = 64 << 20
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("upstream config: %w", errors.Join(faults...))
	}
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	if cfg.ReadFile == nil {
		cfg.ReadFile = os.ReadFile
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg: cfg, roads: map[road]*http.Transport{}}, nil
}

// transport returns the one of the call's upstream.
func (c *Client) transport(call *router.Call) (*http.Transport, error) {
	u := call.Deployment.Upstream
	r := road{u.AllowPrivate, u.Proxy, cmp.Or(call.Timeouts.Connect, c.cfg.ConnectTimeout)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.roads[r]; ok {
		return t, nil
	}
	t, err := newTransport(r)
	if err != nil {
		return nil, err
	}
	if len(c.roads) >= maxRoads {
		c.closeIdle()
		clear(c.roads) // running calls keep theirs to their end
	}
	c.roads[r] = t
	return t, nil
}

// newTransport unpacks nothing, and keeps enough connections for many streams.
func newTransport(r road) (*http.Transport, error) {
	var proxy *url.URL
	if r.proxy != "" {
		var err error
		if proxy, err = url.Parse(r.proxy); err != nil || proxy.Host == "" || proxy.User != nil || (proxy.Scheme != "http" && proxy.Scheme != "https") {
			return nil, errors.New("proxy is no http(s) address without user info: correct the config")
		}
	}
	transport := &http.Transport{
		DialContext:            newGuard(r, proxy).dialer(nil),
		TLSHandshakeTimeout:    r.connect,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		MaxIdleConns:           1024,
		MaxIdleConnsPerHost:    256,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	if proxy != nil {
		transport.Proxy = http.ProxyURL(proxy)
	}
	return transport, nil
}

// CloseIdle closes pooled connections that no call uses. Call it when no more
// calls come; calls after it work.
func (c *Client) CloseIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closeIdle()
}

func (c *Client) closeIdle() {
	for _, t := range c.roads {
		t.CloseIdleConnections()
	}
}

// Stream implements router.Caller.
func (c *Client) Stream(ctx context.Context, call *router.Call) iter.Seq2[router.Chunk, error] {
	return func(yield func(router.Chunk, error) bool) {
		s := &stream{client: c, call: call, upstream: call.Deployment.Upstream}
		s.run(ctx, yield)
	}
}

// dialect is one provider's way to be asked and to answer.
type dialect interface {
	// request returns the address's path and query, the JSON body and the
	// headers, the key's included. Its error says what the dialect cannot say.
	request(call *router.Call, key string) (*outgoing, error)
	// decoder reads one answer.
	decoder() decoder
	// failure reads an error body.
	failure(body []byte) fault
}

// decoder turns events into chunks. It is used by one goroutine.
type decoder interface {
	// event reads one event and passes on what it holds. It returns errWhole
	// after the provider's terminator, errLeft when emit said to stop, and any
	// other error when the stream is broken.
	event(ev event, emit func(router.Chunk) bool) error
	// end is asked at a clean end of the body: nil when the answer is whole.
	end(emit func(router.Chunk) bool) error
}

// outgoing is a request to be made.
type outgoing struct {
	url    *url.URL
	header http.Header
	body   any
}

var (
	errWhole = errors.New("the answer is whole")
	errLeft  = errors.New("the consumer left")
)

func dialectOf(name string) (dialect, error) {
	switch name {
	case "openai":
		return openAI{}, nil
	case "anthropic":
		return anthropic{}, nil
	case "gemini":
		return gemini{}, nil
	default:
		return nil, fmt.Errorf("dialect %q is unknown: use openai, anthropic or gemini", name)
	}
}

// key reads the upstream's key; "" for a server without keys.
func (c *Client) key(u *router.Upstream) (string, error) {
	var key string
	switch {
	case u.KeyEnv != "":
		key = c.cfg.Getenv(u.KeyEnv)
		if key == "" {
			return "", fmt.Errorf("environment variable %s is empty: set it to the upstream's key", u.KeyEnv)
		}
	case u.KeyFile != "":
		b, err := c.cfg.ReadFile(u.KeyFile)
		if err != nil {
			return "", fmt.Errorf("read key_file: %w", err)
		}
		if key = string(b); strings.TrimSpace(key) == "" {
			return "", fmt.Errorf("key_file %q is empty: write the upstream's key into it", u.KeyFile)
		}
	default:
		return "", nil
	}
	key = strings.TrimSpace(key)
	if len(key) > 8<<10 || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("the upstream's key holds characters that no key has, or is longer than 8 KiB: check key_env or key_file")
	}
	return key, nil
}

// address joins the base URL, whose query is kept, with an escaped path.
func address(base, escapedPath string, query url.Values) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.User != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errors.New("base_url is no http(s) address without user info: correct the config")
	}
	if u.Path == "" {
		u.Path = "/"
	}
	u = u.JoinPath(escapedPath)
	q := u.Query()
	for k, v := range query {
		q[k] = v
	}
	u.RawQuery, u.Fragment = q.Encode(), ""
	return u, nil
}
