package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
)

// stalled opens a call whose body never ends, and returns the status that
// the server gives it.
func stalled(t *testing.T, w *world, method string) (grpcStatus string) {
	t.Helper()
	var onlyHTTP2 http.Protocols
	onlyHTTP2.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: &onlyHTTP2}
	defer transport.CloseIdleConnections()
	body, feed := io.Pipe()
	defer func() { _ = feed.Close() }()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.addrs.Listen.String()+method, body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/grpc")
	req.Header.Set("Te", "trailers")
	go func() { _, _ = feed.Write([]byte{0, 0, 0, 4, 0, 'a', 'b'}) }() // 1,024 bytes promised, two sent
	res, err := transport.RoundTrip(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	_, err = io.ReadAll(res.Body)
	require.NoError(t, err)
	if s := res.Header.Get("Grpc-Status"); s != "" {
		return s
	}
	return res.Trailer.Get("Grpc-Status")
}

func TestBodyThatNeverEndsIsBounded(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.RequestTimeout, w.cfg.CompleteTimeout = 50*time.Millisecond, 50*time.Millisecond }).run()
	for _, method := range []string{weirv1.RouterService_Route_FullMethodName, weirv1.RouterService_Complete_FullMethodName} {
		assert.Equal(t, "4", stalled(t, w, method), "DEADLINE_EXCEEDED, though no handler had begun")
	}
	require.NoError(t, w.stop())
	assert.Contains(t, w.log.String(), `"code":"DeadlineExceeded"`)
}

func TestStrangersAreRefusedBeforeTheirBody(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.RequestTimeout = time.Hour // only a refusal before the body ends this test
		w.cfg.TokenFile = writeFile(t, "tokens", "0123456789abcdef")
	}).run()
	assert.Equal(t, "16", stalled(t, w, weirv1.RouterService_Route_FullMethodName), "UNAUTHENTICATED")
	require.NoError(t, w.stop())
	assert.Contains(t, w.log.String(), `"code":"Unauthenticated"`)
}

// A connection that says nothing counts against the connections and is closed.
func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t, func(w *world) { w.cfg.MaxConnections = 1 }).run()
	silent, err := net.Dial("tcp", w.addrs.Listen.String())
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	c := w.client()
	_, err = c.Route(ctx, textRequest("hi"), grpc.WaitForReady(true))
	require.Error(t, err, "the second connection waits")
	require.NoError(t, silent.Close())
	soon, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	_, err = c.Route(soon, textRequest("hi"), grpc.WaitForReady(true))
	require.NoError(t, err, "and is served when the first has gone")
}

// The largest prompt costs at most four times its bytes and 16 MiB, client
// and server together; what is allocated bounds what is held.
func TestLargePromptsCostLittleMemory(t *testing.T) {
	w := newWorld(t, nil).run()
	conn := w.dial(w.addrs.Listen)
	text := strings.Repeat("word ", (DefaultMessageBytes-100)/5)
	body := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), []byte(text))
	rest, err := proto.Marshal(&weirv1.RouteRequest{AllowModels: []string{"alpha/strong"}})
	require.NoError(t, err)
	body = append(body, rest...)
	send := func() {
		var out []byte
		// No window fits it, so that it ends in OUT_OF_RANGE, scored all the same.
		_ = conn.Invoke(t.Context(), weirv1.RouterService_Route_FullMethodName, body, &out, grpc.ForceCodec(rawCodec{}))
	}
	send()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	send()
	runtime.ReadMemStats(&after)
	used := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d bytes allocated for a prompt of %d", used, len(text))
	assert.LessOrEqual(t, used, uint64(4*len(text)+16<<20))
}
