package router_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

// The published comparison, as a fee entered: 10 million tokens at $0.01 a
// thousand are $100 a month, not $1,000.
func TestTenMillionTokensThroughAGateway(t *testing.T) {
	perMillion, err := router.ParseUSD("$10.00") // $0.01 a thousand
	require.NoError(t, err)
	fee, err := router.GatewayFee{PerMillion: perMillion}.Of(0, 1, 10_000_000)
	require.NoError(t, err)
	assert.Equal(t, "$100.00", fee.String())
	price := router.Price{Input: router.RateOf(perMillion), Output: router.RateOf(perMillion)}
	cost, err := price.Cost(router.Usage{Input: 7_000_000, Output: 3_000_000})
	require.NoError(t, err)
	assert.Equal(t, fee, cost)
}

func TestGatewayFee(t *testing.T) {
	share, err := router.ParseShare("5.5%")
	require.NoError(t, err)
	for _, x := range []struct {
		fee           router.GatewayFee
		spent         router.NanoUSD
		calls, tokens int64
		want          router.NanoUSD
	}{
		{router.GatewayFee{}, 1e9, 5, 5, 0},
		{router.GatewayFee{Share: share}, 100e9, 1, 1, 5_500_000_000},
		{router.GatewayFee{PerCall: 1_000_000}, 100e9, 250, 1, 250_000_000},
		{router.GatewayFee{Share: share, PerCall: 7, PerMillion: 3}, 1_000_000, 2, 2_000_000, 55_000 + 14 + 6},
		{router.GatewayFee{Share: 1}, 500_000, 0, 0, 0},   // half to even, down
		{router.GatewayFee{Share: 1}, 1_500_000, 0, 0, 2}, // and up
		{router.GatewayFee{Share: 1_000_000}, math.MaxInt64, 0, 0, math.MaxInt64},
	} {
		got, err := x.fee.Of(x.spent, x.calls, x.tokens)
		require.NoError(t, err)
		assert.Equal(t, x.want, got, "%+v", x)
	}
	for _, x := range []struct {
		fee           router.GatewayFee
		spent         router.NanoUSD
		calls, tokens int64
	}{
		{router.GatewayFee{Share: 2_000_000}, math.MaxInt64, 0, 0},
		{router.GatewayFee{PerCall: math.MaxInt64}, 0, math.MaxInt64, 0},
		{router.GatewayFee{PerMillion: math.MaxInt64}, 0, 0, math.MaxInt64},
	} {
		_, err := x.fee.Of(x.spent, x.calls, x.tokens)
		assert.ErrorIs(t, err, router.ErrOverflow, "%+v", x)
	}
	_, err = router.GatewayFee{}.Of(-1, 0, 0)
	assert.Error(t, err)
}

func TestParseShare(t *testing.T) {
	for s, want := range map[string]int64{"5.5%": 55_000, "0%": 0, "100%": 1_000_000, "0.0001%": 1, "12.3456%": 123_456} {
		got, err := router.ParseShare(s)
		require.NoError(t, err, s)
		assert.Equal(t, want, got, s)
	}
	for _, s := range []string{"", "%", "5.5", "-1%", "100.0001%", "1.23456%", "1e2%", "99999999999999999999%", "five%", ".5%"} {
		_, err := router.ParseShare(s)
		assert.Error(t, err, s)
	}
}

func TestPlusAndMinus(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	most, least := big.NewInt(math.MaxInt64), big.NewInt(math.MinInt64)
	edges := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, math.MinInt64 + 1}
	draw := func() int64 {
		if rng.IntN(3) == 0 {
			return edges[rng.IntN(len(edges))]
		}
		return int64(rng.Uint64()) >> rng.IntN(64)
	}
	for range 100_000 {
		a, b := draw(), draw()
		for name, f := range map[string]func() (router.NanoUSD, error){
			"plus":  func() (router.NanoUSD, error) { return router.NanoUSD(a).Plus(router.NanoUSD(b)) },
			"minus": func() (router.NanoUSD, error) { return router.NanoUSD(a).Minus(router.NanoUSD(b)) },
		} {
			want := new(big.Int).Add(big.NewInt(a), big.NewInt(b))
			if name == "minus" {
				want.Sub(big.NewInt(a), big.NewInt(b))
			}
			got, err := f()
			if want.Cmp(most) > 0 || want.Cmp(least) < 0 {
				require.ErrorIs(t, err, router.ErrOverflow, "%d %s %d", a, name, b)
				continue
			}
			require.NoError(t, err)
			require.Equal(t, want.Int64(), int64(got), "%d %s %d", a, name, b)
		}
	}
}

func TestBaselineCost(t *testing.T) {
	rate := func(n router.NanoUSD) router.Rate { return router.RateOf(n) }
	dear := &router.Model{ID: "dear", TokenRatio: 1.5, Price: router.Price{Input: rate(10e9), CachedInput: rate(1e9), Output: rate(50e9), PerRequest: rate(1000)}}
	same := &router.Model{ID: "same", TokenRatio: 1.5}
	finer := &router.Model{ID: "finer", TokenRatio: 3}
	unknown := &router.Model{}
	u := router.Usage{Input: 1000, CachedInput: 400, Output: 200, Reasoning: 50}

	cost, err := router.BaselineCost(dear, same, 1, u)
	require.NoError(t, err)
	assert.EqualValues(t, 600*10_000+400*1_000+200*50_000+1000, cost)
	at, err := router.BaselineCost(dear, unknown, 1, u)
	require.NoError(t, err)
	assert.Equal(t, cost, at, "a model without a ratio counts as the baseline does")
	cost, err = router.BaselineCost(dear, finer, 2, u)
	require.NoError(t, err)
	assert.EqualValues(t, 300*10_000+200*1_000+100*50_000+2000, cost, "half the tokens say the same text")
	cost, err = router.BaselineCost(dear, same, 0, router.Usage{})
	require.NoError(t, err)
	assert.Zero(t, cost)

	_, err = router.BaselineCost(same, dear, 1, u)
	assert.ErrorIs(t, err, router.ErrPriceUnknown)
	_, err = router.BaselineCost(dear, same, 1, router.Usage{Input: math.MaxInt64})
	assert.ErrorIs(t, err, router.ErrOverflow)
	_, err = router.BaselineCost(dear, same, math.MaxInt64, u)
	assert.ErrorIs(t, err, router.ErrOverflow)
	_, err = router.BaselineCost(dear, same, 1, router.Usage{Input: -1})
	assert.Error(t, err)
	_, err = router.BaselineCost(dear, same, -1, u)
	assert.Error(t, err)
}

func TestAccountsInAConfig(t *testing.T) {
	none := func(string) string { return "" }
	base, err := router.ParseConfig(router.DefaultConfig(), "test", none)
	require.NoError(t, err)
	model := base.Catalog.Models()[0].ID
	parse := func(accounts string) (*router.Rules, error) {
		return router.ParseConfig([]byte(withoutAccounts(string(router.DefaultConfig()))+"\naccounts:\n"+accounts), "test", none)
	}
	rules, err := parse("  budget: {limit: \"$50\", window: month}\n  baseline: " + model + "\n  overhead: \"$0.000002\"\n  gateway_fee: {share: \"5.5%\", per_call: \"$0.001\", tokens: \"$10/M\"}\n")
	require.NoError(t, err)
	assert.Equal(t, router.Accounts{
		Budget: router.Budget{Limit: 50e9, Window: "month"}, Baseline: model, Overhead: 2000,
		GatewayFee: router.GatewayFee{Share: 55_000, PerCall: 1_000_000, PerMillion: 10e9},
	}, rules.Accounts)
	for text, path := range map[string]string{
		"  budget: {limit: \"$50\", window: week}":   "accounts.budget.window",
		"  budget: {limit: \"$50\"}":                 "accounts.budget.window",
		"  budget: {limit: \"50\", window: day}":     "accounts.budget.limit",
		"  budget: {limit: \"-$50\", window: day}":   "accounts.budget.limit",
		"  baseline: nobody":                         "accounts.baseline",
		"  overhead: cheap":                          "accounts.overhead",
		"  gateway_fee: {share: \"101%\"}":           "accounts.gateway_fee.share",
		"  gateway_fee: {tokens: \"$10\"}":           "accounts.gateway_fee.tokens",
		"  gateway_fee: {per_call: \"$0.001/call\"}": "accounts.gateway_fee.per_call",
	} {
		_, err := parse(text + "\n")
		require.Error(t, err, text)
		assert.Contains(t, err.Error(), path, text)
	}
}

func withoutAccounts(config string) string {
	head, _, _ := strings.Cut(config, "\naccounts:")
	return head
}
