package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/weirhq/weir/internal/ledger"
	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// The whole server is killed (-9) at random points of completions: every charge
// that a caller was told of is in the ledger once, as it was told, and after
// recovery nothing is open.
func TestKilledInMidCompletion(t *testing.T) {
	kills, atLeast := 4, 4 // each run lives until its first acknowledgement
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		kills, atLeast = 100, 1000
	}
	provider, err := upstreamtest.Start("127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, provider.Close()) })
	provider.Forget()
	answer := fullAnswer()
	answer.Delay = time.Millisecond
	provider.Always(answer)
	k := &killed{
		config: write(t, "weir.yaml", completeConfig(provider.URL(), "accounts: {budget: {limit: \"$1000.00\", window: total}}\n")),
		books:  filepath.Join(t.TempDir(), "ledger.db"), socket: shortSocket(t), told: map[string]*weirv1.Receipt{},
	}
	rng := rand.New(rand.NewPCG(8, 9))
	for run := range kills {
		k.run(t, run, time.Duration(rng.Int64N(int64(100*time.Millisecond))))
	}
	require.GreaterOrEqual(t, len(k.told), atLeast)

	// The next start closes what was open; each key answers with what was told.
	client, stop := k.serve(t)
	called := provider.Count()
	for key, told := range k.told {
		got := complete(t.Context(), t, client, keyed(key))
		require.Equal(t, codes.AlreadyExists, status.Code(got.err), "%s: %v", key, got.err)
		var kept *weirv1.Receipt
		for _, d := range status.Convert(got.err).Details() {
			if r, ok := d.(*weirv1.Receipt); ok {
				kept = r
			}
		}
		require.Equal(t, told.GetDecisionId(), kept.GetDecisionId())
		require.Equal(t, told.GetBookedNanoUsd(), kept.GetBookedNanoUsd())
		require.Equal(t, "complete", kept.GetStatus())
	}
	assert.Equal(t, called, provider.Count(), "no call twice")
	stop()
	l, err := ledger.Open(t.Context(), ledger.Config{Path: k.books})
	require.NoError(t, err)
	assert.Equal(t, ledger.Recovery{}, l.Recovery(), "0 open reservations, no drift")
	rows, err := l.Usage(t.Context(), &router.UsageQuery{GroupBy: []string{"status"}})
	require.NoError(t, err)
	require.NoError(t, l.Close())
	unknown := int64(0)
	for _, r := range rows {
		if r.Group[0] == ledger.StatusUnknown {
			unknown = r.Calls
		}
	}
	t.Logf("%d kills: %d acknowledged, %d closed by recovery", kills, len(k.told), unknown)
}

// killed is a server that is started and killed again over one ledger.
type killed struct {
	config, books, socket string

	mu   sync.Mutex
	told map[string]*weirv1.Receipt // by idempotency key
}

func keyed(key string) *weirv1.CompleteRequest {
	req := askModel("fake/openai")
	req.IdempotencyKey = key
	return req
}

// shortSocket is a path that fits a socket's name.
func shortSocket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "weir")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// serve starts the server as a process and waits until it answers; stop kills it.
func (k *killed) serve(t *testing.T) (client weirv1.RouterServiceClient, stop func()) {
	t.Helper()
	program, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), program, "serve", "--classifier", "lexical", "--config", k.config, "--ledger", k.books, //nolint:gosec // this very test
		"--listen", "unix:"+k.socket, "--admin-listen", "off", "--metrics-listen", "off", "--log-level", "error")
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	conn, err := grpc.NewClient("unix:"+k.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.WaitForReady(true)))
	require.NoError(t, err)
	client = weirv1.NewRouterServiceClient(conn)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = client.ListModels(ctx, &weirv1.ListModelsRequest{})
	require.NoError(t, err, "the server answers")
	return client, func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = conn.Close()
	}
}

// run lets eight callers complete until the server dies under them, some time
// after the first acknowledgement.
func (k *killed) run(t *testing.T, run int, after time.Duration) {
	t.Helper()
	client, stop := k.serve(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	first := make(chan struct{}, 1)
	var dead atomic.Bool
	var callers sync.WaitGroup
	for c := range 8 {
		callers.Go(func() {
			for i := 0; !dead.Load(); i++ {
				key := fmt.Sprintf("%d.%d.%d", run, c, i)
				receipt := k.ask(ctx, client, key)
				if receipt == nil {
					continue
				}
				k.mu.Lock()
				k.told[key] = receipt
				k.mu.Unlock()
				select {
				case first <- struct{}{}:
				default:
				}
			}
		})
	}
	select {
	case <-first:
		time.Sleep(after)
	case <-ctx.Done():
		assert.Fail(t, "no answer in a minute")
	}
	dead.Store(true)
	stop()
	cancel() // who waits for the server to come back waits no more
	callers.Wait()
}

// ask returns the receipt of the last message, nil where none came.
func (k *killed) ask(ctx context.Context, c weirv1.RouterServiceClient, key string) *weirv1.Receipt {
	stream, err := c.Complete(ctx, keyed(key))
	if err != nil {
		return nil
	}
	var receipt *weirv1.Receipt
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return receipt
		}
		if err != nil {
			return receipt // told before it died, it counts
		}
		if done := event.GetCompleted(); done != nil {
			receipt = done.GetReceipt()
		}
	}
}
