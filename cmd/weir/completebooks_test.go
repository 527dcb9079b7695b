package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/ledger"
	"github.com/weirhq/weir/internal/upstream/upstreamtest"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// Many callers at once, a third of whose calls are left or fail: afterwards
// nothing is held, and the counter of money on the metrics page is what the
// ledger says to the nano-dollar.
func TestTheCounterIsTheLedgerExactly(t *testing.T) {
	calls, callers := 400, 8
	if raceDetector {
		calls = 100
	}
	if os.Getenv("WEIR_CAMPAIGN") != "" {
		calls, callers = 10_000, 32
	}
	s := startCompleting(t, "accounts: {budget: {limit: \"$1000.00\", window: total}}\n")
	s.provider.Forget()
	s.provider.Script(func(r upstreamtest.Request) upstreamtest.Answer {
		a := upstreamtest.Answer{Usage: &router.Usage{Input: int64(10 + r.Number%7), Output: int64(20 + r.Number%11)}}
		for range 10 {
			a.Text = append(a.Text, "some words ")
		}
		if r.Number%7 == 0 {
			a.Fault = upstreamtest.Fault{Kind: []upstreamtest.FaultKind{upstreamtest.Cut, upstreamtest.Reset, upstreamtest.Status}[r.Number%3], At: 700, Status: 503}
		}
		return a
	})
	var next, left, failed, whole atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		rng := rand.New(rand.NewPCG(5, uint64(c)))
		wg.Go(func() {
			for next.Add(1) <= int64(calls) {
				leaveAfter := -1
				if rng.IntN(5) == 0 {
					leaveAfter = 1 + rng.IntN(9) // the decision has come: the call counts
				}
				ended, err := completeAndLeave(t.Context(), s.client, askModel("fake/"+[]string{"openai", "anthropic", "gemini"}[rng.IntN(3)]), leaveAfter)
				switch {
				case !ended:
					left.Add(1)
				case err != nil:
					failed.Add(1)
				default:
					whole.Add(1)
				}
			}
		})
	}
	wg.Wait()
	assert.Positive(t, whole.Load())
	assert.GreaterOrEqual(t, left.Load()+failed.Load(), int64(calls/5))
	// A call that was left is settled a moment after the caller has gone.
	var row router.UsageRow
	require.Eventually(t, func() bool {
		rows, err := s.books.Usage(t.Context(), &router.UsageQuery{})
		if err != nil || len(rows) != 1 {
			return false
		}
		row = rows[0]
		return row.Calls == int64(calls)
	}, 30*time.Second, 10*time.Millisecond)
	assert.Equal(t, int64(row.Cost), counted(t, s.metrics, "weir_complete_cost_nano_usd_total"))
	assert.Equal(t, row.Attempts, counted(t, s.metrics, "weir_complete_attempts_total"))
	assert.Equal(t, row.Calls, counted(t, s.metrics, "weir_complete_calls_total"))
	s.stop()
	require.NoError(t, s.books.Close())
	again, err := ledger.Open(t.Context(), ledger.Config{Path: s.file})
	require.NoError(t, err)
	assert.Equal(t, ledger.Recovery{}, again.Recovery(), "0 open reservations, no drift")
	require.NoError(t, again.Close())
	t.Logf("%d calls: %d whole, %d left, %d failed; %d attempts, %s", calls, whole.Load(), left.Load(), failed.Load(), row.Attempts, row.Cost)
}

// completeAndLeave reads an answer to its end, or leaves after so many messages;
// ended is false where it left.
func completeAndLeave(ctx context.Context, c weirv1.RouterServiceClient, req *weirv1.CompleteRequest, leaveAfter int) (ended bool, err error) {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	stream, err := c.Complete(ctx, req)
	if err != nil {
		return true, err
	}
	for n := 0; n != leaveAfter; n++ {
		if _, err := stream.Recv(); errors.Is(err, io.EOF) {
			return true, nil
		} else if err != nil {
			return true, err
		}
	}
	return false, nil
}

// counted sums a counter over its labels.
func counted(t *testing.T, metrics http.Handler, name string) int64 {
	t.Helper()
	page := httptest.NewRecorder()
	metrics.ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var sum float64
	for line := range strings.Lines(page.Body.String()) {
		if head, value, ok := strings.Cut(strings.TrimSpace(line), "} "); ok && strings.HasPrefix(head, name+"{") {
			n, err := strconv.ParseFloat(value, 64)
			require.NoError(t, err)
			sum += n
		}
	}
	return int64(sum)
}

// A reader that stops reading stops the provider: what the server holds of an
// answer is bounded, and all of it arrives when the reader goes on.
func TestASlowReaderHoldsTheProviderBack(t *testing.T) {
	if raceDetector {
		t.Skip("32 MB take their time under the race detector, and the plain run carries them")
	}
	const pieces, size = 4000, 8000 // 32 MB
	var sent atomic.Int64
	piece := strings.Repeat("x", size)
	endless := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for range pieces {
			n, err := fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", piece)
			if err != nil {
				return
			}
			sent.Add(int64(n))
		}
		_, _ = io.WriteString(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
	}))
	var err error
	endless.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	endless.Start()
	defer endless.Close()
	s := startCompletingAt(t, "http://"+endless.Listener.Addr().String(), "")
	stream, err := s.client.Complete(t.Context(), askModel("fake/openai"))
	require.NoError(t, err)
	for range 2 {
		_, err = stream.Recv()
		require.NoError(t, err)
	}
	held := int64(-1)
	require.Eventually(t, func() bool { // it comes to rest
		before := held
		held = sent.Load()
		return held == before
	}, 30*time.Second, 300*time.Millisecond)
	assert.Less(t, held, int64(pieces*size)/2, "the provider waits for the reader")
	got := 0
	for {
		event, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		got += len(event.GetDelta().GetText())
		if c := event.GetCompleted(); c != nil {
			assert.Equal(t, weirv1.CompletionStatus_COMPLETION_STATUS_COMPLETE, c.GetStatus())
		}
	}
	assert.Equal(t, (pieces-1)*size, got)
	t.Logf("%.1f MB had been sent when the reader stood still", float64(held)/1e6)
}
