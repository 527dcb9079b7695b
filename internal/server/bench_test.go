package server

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/telemetry"
	"github.com/weirhq/weir/router"
)

// BenchmarkRoute is one Route over loopback, client and server in one process,
// with metrics and, where named, the access log on. The classifier is the
// lexical baseline: the model's own time is measured where the model is.
func BenchmarkRoute(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		for _, access := range []bool{true, false} {
			name := "callers=" + string(rune('0'+callers/10)) + string(rune('0'+callers%10)) + "/log=off"
			if access {
				name = strings.TrimSuffix(name, "off") + "on"
			}
			b.Run(name, func(b *testing.B) { benchRoute(b, callers, access) })
		}
	}
}

func benchRoute(b *testing.B, callers int, access bool) {
	w := newWorld(b, func(w *world) {
		m, err := telemetry.NewMetrics(prometheus.NewRegistry(), telemetry.Build{})
		require.NoError(b, err)
		rules, err := router.ParseConfig(router.DefaultConfig(), "embedded", func(string) string { return "" })
		require.NoError(b, err)
		w.store, err = router.NewStore(w.class, rules)
		require.NoError(b, err)
		journal, err := router.NewMemoryJournal(10_000)
		require.NoError(b, err)
		w.cfg.Store = w.store
		w.cfg.Router, err = router.New(router.Config{Store: w.store, Journal: journal, Now: time.Now, NewID: testID(), Observer: m})
		require.NoError(b, err)
		w.cfg.Observer = m
		w.cfg.NoAccessLog = !access
		w.cfg.Logger = slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // the cost of making the line counts
	}).run()
	c := w.client()
	req := textRequest(strings.Repeat("Explain how the index of this table is used by the query. ", 10))
	_, err := c.Route(context.Background(), req)
	require.NoError(b, err)
	times := make([][]time.Duration, callers)
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for i := range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				start := time.Now()
				if _, err := c.Route(context.Background(), req); err != nil {
					b.Error(err)
					return
				}
				times[i] = append(times[i], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "route/s")
}
