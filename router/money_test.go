package router_test

import (
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/router"
)

func TestUSD(t *testing.T) {
	for text, want := range map[string]router.NanoUSD{
		"$0": 0, "$1": 1e9, "$0.25": 25e7, "$0.000000001": 1, "$9223372036.854775807": math.MaxInt64,
	} {
		got, err := router.ParseUSD(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "1", "€1", "$", "$.5", "$1.", "$-1", "$+1", "$1e3", "$0.0000000001", "$9223372036.854775808", "$1,000", "$ 1"} {
		_, err := router.ParseUSD(text)
		require.Error(t, err, text)
	}
	assert.Equal(t, "$0.25", router.NanoUSD(25e7).String())
	assert.Equal(t, "$0.00000028", router.NanoUSD(280).String())
	assert.Equal(t, "-$1.50", router.NanoUSD(-15e8).String())
	assert.Equal(t, "-$9223372036.854775808", router.NanoUSD(math.MinInt64).String())
}

func TestTenMillionTokensAtACentAThousand(t *testing.T) {
	// $0.01 a thousand is $10 a million; ten million tokens are $100, not $1,000.
	p := router.Price{Input: router.RateOf(10e9), Output: router.RateOf(10e9)}
	got, err := p.Cost(router.Usage{Input: 6_000_000, Output: 4_000_000})
	require.NoError(t, err)
	assert.Equal(t, "$100.00", got.String())
}

func TestCostByKind(t *testing.T) {
	p := router.Price{
		Input: router.RateOf(1e9), CachedInput: router.RateOf(1e8), CacheWrite: router.RateOf(125e7),
		Output: router.RateOf(4e9), Reasoning: router.RateOf(6e9), PerRequest: router.RateOf(7),
	}
	got, err := p.Cost(router.Usage{Input: 1000, CachedInput: 300, CacheWrite: 200, Output: 100, Reasoning: 40})
	require.NoError(t, err)
	assert.Equal(t, router.NanoUSD(500*1000+300*100+200*1250+60*4000+40*6000+7), got)

	plain := router.Price{Input: router.RateOf(1e9), Output: router.RateOf(4e9)}
	got, err = plain.Cost(router.Usage{Input: 1000, CachedInput: 300, CacheWrite: 200, Output: 100, Reasoning: 40})
	require.NoError(t, err)
	assert.Equal(t, router.NanoUSD(1000*1000+100*4000), got, "unlisted kinds are billed as input and output")

	small, err := router.Price{Input: router.RateOf(7e6), Output: router.RateOf(0)}.Cost(router.Usage{Input: 40})
	require.NoError(t, err)
	assert.Equal(t, router.NanoUSD(280), small, "40 tokens at $0.007 a million")
}

func TestCostRoundsHalfEvenOnce(t *testing.T) {
	cost := func(rate router.NanoUSD, tokens int64) router.NanoUSD {
		got, err := router.Price{Input: router.RateOf(rate), Output: router.RateOf(rate)}.Cost(router.Usage{Input: tokens})
		require.NoError(t, err)
		return got
	}
	assert.Equal(t, router.NanoUSD(0), cost(1, 500_000), "0.5 goes to 0")
	assert.Equal(t, router.NanoUSD(2), cost(1, 1_500_000), "1.5 goes to 2")
	assert.Equal(t, router.NanoUSD(2), cost(1, 2_500_000), "2.5 goes to 2")
	assert.Equal(t, router.NanoUSD(1), cost(1, 500_001))
	both, err := router.Price{Input: router.RateOf(1), Output: router.RateOf(1)}.Cost(router.Usage{Input: 400_000, Output: 400_000})
	require.NoError(t, err)
	assert.Equal(t, router.NanoUSD(1), both, "0.4 + 0.4 is rounded once, to 1")
}

func TestCostRefuses(t *testing.T) {
	p := router.Price{Input: router.RateOf(1e9), Output: router.RateOf(1e9)}
	_, err := router.Price{Output: router.RateOf(1)}.Cost(router.Usage{Input: 1})
	require.ErrorIs(t, err, router.ErrPriceUnknown)
	_, err = router.Price{Input: router.RateOf(1)}.Cost(router.Usage{Input: 1})
	require.NoError(t, err, "an unknown price of tokens that were not used does not matter")
	_, err = router.Price{Input: router.RateOf(math.MaxInt64), Output: router.RateOf(1)}.Cost(router.Usage{Input: math.MaxInt64})
	require.ErrorIs(t, err, router.ErrOverflow)
	for _, u := range []router.Usage{{Input: -1}, {Input: 1, CachedInput: 2}, {Input: 3, CachedInput: 2, CacheWrite: 2}, {Output: 1, Reasoning: 2}} {
		_, err = p.Cost(u)
		require.Error(t, err, u)
	}
	_, err = router.Price{Input: router.RateOf(-5), Output: router.RateOf(1)}.Cost(router.Usage{Input: 1})
	require.ErrorContains(t, err, "negative price")
}

func TestCostEqualsBigArithmetic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.OneOf(rapid.Int64Range(0, 1<<20), rapid.Int64Range(0, math.MaxInt64))
		in, out := amount.Draw(t, "in"), amount.Draw(t, "out")
		inRate, outRate, fee := amount.Draw(t, "in rate"), amount.Draw(t, "out rate"), amount.Draw(t, "fee")
		p := router.Price{Input: router.RateOf(router.NanoUSD(inRate)), Output: router.RateOf(router.NanoUSD(outRate)), PerRequest: router.RateOf(router.NanoUSD(fee))}
		got, err := p.Cost(router.Usage{Input: in, Output: out})

		mul := func(a, b int64) *big.Int { return new(big.Int).Mul(big.NewInt(a), big.NewInt(b)) }
		sum := mul(in, inRate)
		sum.Add(sum, mul(out, outRate)).Add(sum, mul(fee, 1_000_000))
		q, rem := new(big.Int).QuoRem(sum, big.NewInt(1_000_000), new(big.Int))
		if c := rem.Cmp(big.NewInt(500_000)); c > 0 || (c == 0 && q.Bit(0) == 1) {
			q.Add(q, big.NewInt(1))
		}
		if !q.IsInt64() {
			require.ErrorIs(t, err, router.ErrOverflow)
			return
		}
		require.NoError(t, err)
		require.Equal(t, q.Int64(), int64(got))
	})
}
