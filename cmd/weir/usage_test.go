package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/weirhq/weir/internal/ledger"
	"github.com/weirhq/weir/internal/server"
	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// fillLedger writes two weeks of calls and leaves the ledger open, as a running
// server does.
func fillLedger(t *testing.T, path string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), ledger.Config{Path: path})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.Close()) })
	rules, err := router.LoadConfig("", func(string) string { return "" })
	require.NoError(t, err)
	models := rules.Catalog.Models()
	rng := rand.New(rand.NewPCG(3, 4))
	start := time.Date(2026, 11, 2, 8, 0, 0, 0, time.UTC)
	for i := range 200 {
		m := models[rng.IntN(4)*3]
		at := start.AddDate(0, 0, rng.IntN(14)).Add(time.Duration(rng.IntN(12)) * time.Hour)
		if at.Day() == 8 {
			continue // a day without calls
		}
		id := fmt.Sprint(i)
		require.NoError(t, l.Reserve(t.Context(), &router.Reservation{CallID: id, Time: at, Model: m.ID, Policy: "balanced", Tier: m.Tier}))
		u := router.Usage{Input: 500 + rng.Int64N(4000), Output: 50 + rng.Int64N(900)}
		cost, err := m.Price.Cost(u)
		require.NoError(t, err)
		baseline, err := router.BaselineCost(models[0], m, 1, u)
		require.NoError(t, err)
		s := &router.Settlement{
			CallID: id, Time: at, Status: "complete", Baseline: models[0].ID, BaselineCost: baseline, BaselineKnown: true,
			Attempts: []router.AttemptRecord{{Model: m.ID, Upstream: "one", Outcome: "ok", Usage: u, Cost: cost, CostKnown: true, Start: at}},
		}
		if i%20 == 0 {
			s.Attempts = append([]router.AttemptRecord{{Model: m.ID, Upstream: "two", Outcome: "overload", CostKnown: true, Start: at}}, s.Attempts...)
		}
		if i == 7 {
			s.Attempts[0].CostKnown, s.Attempts[0].Cost, s.Attempts[0].Usage.Estimated = false, 0, true
		}
		_, err = l.Settle(t.Context(), s)
		require.NoError(t, err)
	}
	return l
}

func weirUsage(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), append([]string{"usage"}, args...), world{func(string) string { return "" }, strings.NewReader(""), &stdout, &stderr})
	return code, stdout.String(), stderr.String()
}

func TestUsageReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := fillLedger(t, path)
	rows, err := l.Usage(t.Context(), &router.UsageQuery{})
	require.NoError(t, err)
	total := rows[0]

	t.Run("table", func(t *testing.T) {
		code, out, errs := weirUsage(t, "--ledger", path, "--since", "all", "--gateway-fee", "5.5%")
		require.Zero(t, code, errs)
		for line := range strings.Lines(out) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 80, line)
		}
		assert.Contains(t, out, "total")
		assert.Contains(t, out, usd(int64(total.Cost)))
		assert.Contains(t, out, "1 attempt of unknown price")
		assert.Contains(t, out, "counted here")
		assert.Contains(t, out, "hosted gateway")
		t.Log("\n" + out)
	})
	t.Run("chart", func(t *testing.T) {
		code, out, errs := weirUsage(t, "--ledger", path, "--since", "all", "--chart")
		require.Zero(t, code, errs)
		days := 0
		for line := range strings.Lines(out) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), 80, line)
			if strings.HasPrefix(line, "2026-11-") {
				days++
			}
		}
		assert.Equal(t, 14, days, "days without calls are there")
		t.Log("\n" + out)
	})
	t.Run("csv adds up exactly", func(t *testing.T) {
		for _, by := range []string{"model", "day,outcome", "provider"} {
			code, out, errs := weirUsage(t, "--ledger", path, "--since", "all", "--csv", "--group-by", by, "--baseline", "openai/gpt-6.1-sol")
			if code != 0 {
				t.Fatal(errs)
			}
			lines, err := csv.NewReader(strings.NewReader(out)).ReadAll()
			require.NoError(t, err)
			column := func(name string) (sum router.NanoUSD) {
				for i, h := range lines[0] {
					if h != name {
						continue
					}
					for _, l := range lines[1:] {
						text, negative := strings.CutPrefix(l[i], "-")
						n, err := router.ParseUSD("$" + text)
						require.NoError(t, err)
						if negative {
							n = -n
						}
						sum += n
					}
					return sum
				}
				t.Fatalf("no column %s in %v", name, lines[0])
				return 0
			}
			assert.Equal(t, total.Cost, column("cost_usd"), by)
			assert.Equal(t, total.Savings, column("savings_usd"), by)
			assert.NotZero(t, column("cost_usd openai/gpt-6.1-sol"))
		}
	})
	t.Run("the time bounds", func(t *testing.T) {
		code, out, _ := weirUsage(t, "--ledger", path, "--since", "2026-11-08", "--until", "2026-11-09")
		assert.Zero(t, code)
		assert.Contains(t, out, "No completed calls")
		code, _, errs := weirUsage(t, "--ledger", path, "--since", "yesterday")
		assert.Equal(t, exitUsage, code)
		assert.Contains(t, errs, "7d or all")
	})
	t.Run("wrong use", func(t *testing.T) {
		for want, args := range map[string][]string{
			"group_by[0]":   {"--group-by", "week"},
			"baselines[0]":  {"--baseline", "nobody"},
			"gateway-fee":   {"--gateway-fee", "much"},
			"no ledger at ": {"--ledger", filepath.Join(t.TempDir(), "none.db")},
		} {
			if args[0] != "--ledger" {
				args = append(args, "--ledger", path)
			}
			code, _, errs := weirUsage(t, args...)
			assert.NotZero(t, code)
			assert.Contains(t, errs, want)
		}
	})
}

func TestUsageAsks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := fillLedger(t, path)
	rules, err := router.LoadConfig("", func(string) string { return "" })
	require.NoError(t, err)
	s := &answering{source: l, rules: rules}
	g := grpc.NewServer()
	weirv1.RegisterRouterServiceServer(g, s)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = g.Serve(lis) }()
	t.Cleanup(g.Stop)
	code, asked, errs := weirUsage(t, "--addr", lis.Addr().String(), "--since", "all")
	require.Zero(t, code, errs)
	_, read, _ := weirUsage(t, "--ledger", path, "--since", "all")
	assert.Equal(t, read, asked, "the server and the file tell the same")
	code, out, errs := weirUsage(t, "--addr", lis.Addr().String(), "--since", "all", "--json")
	require.Zero(t, code, errs)
	assert.Contains(t, out, `"cost_nano_usd"`)
}

type answering struct {
	weirv1.UnimplementedRouterServiceServer
	source server.UsageSource
	rules  *router.Rules
}

func (a *answering) Usage(ctx context.Context, req *weirv1.UsageRequest) (*weirv1.UsageResponse, error) {
	return server.UsageOf(ctx, a.source, a.rules, req)
}

func TestUSD(t *testing.T) {
	for n, want := range map[int64]string{
		0: "$0.00", 1: "$0.000000001", 280: "$0.00000028", 123_456_789: "$0.12", 12_345_678: "$0.0123", 99_999_999: "$0.10",
		999_999_999: "$1.00", 1_234_567_890_000: "$1,234.57", -1_234_567_890_000: "-$1,234.57", -12_345_678: "-$0.0123",
	} {
		assert.Equal(t, want, usd(n), strconv.FormatInt(n, 10))
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1.00k", 12_345: "12.3k", 999_499: "999k", 999_999: "1.00M", 1_500_000_000: "1.50B"} {
		assert.Equal(t, want, short(n))
	}
}

func TestBars(t *testing.T) {
	for _, x := range []struct{ spent, saved, most float64 }{{1, 0, 1}, {0.5, 0.5, 1}, {0.001, 0, 1}, {0, 1, 1}, {0, 0, 1}, {0.3, 0.69999, 1}} {
		bar := bars(x.spent, x.saved, x.most)
		assert.LessOrEqual(t, utf8.RuneCountInString(bar), chartWidth)
		assert.Equal(t, x.spent > 0 || x.saved > 0, bar != "", "what is not zero is seen: %v", x)
	}
	assert.Equal(t, strings.Repeat("█", chartWidth/2)+strings.Repeat("░", chartWidth/2), bars(1, 1, 2))
}
