package catalog_test

import (
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/internal/catalog"
	"github.com/weirhq/weir/router"
)

func TestPerTokenIsExact(t *testing.T) {
	for figure, want := range map[string]router.NanoUSD{
		"2.5e-06": 2_500_000_000, "0.0000025": 2_500_000_000, "25E-7": 2_500_000_000, "2.50e-6": 2_500_000_000,
		"7e-9": 7_000_000, "0": 0, "0.0": 0, "0e5": 0, "1.8e-05": 18_000_000_000, "0.00006": 60_000_000_000,
		"4.95e-06": 4_950_000_000, "1e-15": 1, "6.36e-08": 63_600_000, "3.432e-07": 343_200_000, "1e0": 1_000_000_000_000_000,
		".5e-6": 500_000_000, "5.e-6": 5_000_000_000, "1e+0": 1_000_000_000_000_000,
	} {
		got, exact, err := catalog.PerToken(figure)
		require.NoError(t, err, figure)
		assert.True(t, exact, figure)
		assert.Equal(t, want, got, figure)
	}
	for figure, want := range map[string]router.NanoUSD{ // binary noise, and halves
		"2.0000000000000002e-07": 200_000_000, "2.1429999999999996e-06": 2_143_000_000, "5e-16": 1, "4.9e-16": 0, "1e-60": 0,
	} {
		got, exact, err := catalog.PerToken(figure)
		require.NoError(t, err, figure)
		assert.False(t, exact, figure)
		assert.Equal(t, want, got, figure)
	}
	got, exact, err := catalog.PerRequest("0.005")
	require.NoError(t, err)
	assert.True(t, exact)
	assert.Equal(t, router.NanoUSD(5_000_000), got)
}

func TestFiguresThatAreNone(t *testing.T) {
	for figure, want := range map[string]error{
		"": catalog.ErrNoFigure, ".": catalog.ErrNoFigure, "e-6": catalog.ErrNoFigure, "1e": catalog.ErrNoFigure, "1e++6": catalog.ErrNoFigure,
		"0x10": catalog.ErrNoFigure, "1_000": catalog.ErrNoFigure, "NaN": catalog.ErrNoFigure, "Inf": catalog.ErrNoFigure, "free": catalog.ErrNoFigure,
		"1.2.3": catalog.ErrNoFigure, "1 ": catalog.ErrNoFigure, "--1": catalog.ErrNoFigure, "-": catalog.ErrNoFigure, "1e-6e-6": catalog.ErrNoFigure,
		"-1": catalog.ErrNegative, "-2.5e-06": catalog.ErrNegative,
		"1e65": catalog.ErrOutOfRange, "1e-65": catalog.ErrOutOfRange, "1e999999999": catalog.ErrOutOfRange, "10000": catalog.ErrOutOfRange,
		"1e99999999999999999999": catalog.ErrNoFigure,
		"0.00000000000000000000000000000000000000000000000000000000000000025": catalog.ErrOutOfRange,
	} {
		_, _, err := catalog.PerToken(figure)
		require.ErrorIs(t, err, want, figure)
	}
}

// FuzzPerToken holds the parser against big.Rat, which shares no code with it.
func FuzzPerToken(f *testing.F) {
	for _, s := range []string{"2.5e-06", "0.0000025", "2.0000000000000002e-07", "-1", "1e64", "5e-16", ".5", "5.", "0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, figure string) {
		got, exact, err := catalog.PerToken(figure)
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(figure)
		if !ok {
			t.Fatalf("%q was read as %d, and is no number", figure, got)
		}
		want.Mul(want, new(big.Rat).SetInt64(1_000_000_000_000_000))
		off := want.Sub(want, new(big.Rat).SetInt64(int64(got)))
		if exact != (off.Sign() == 0) || off.Abs(off).Cmp(big.NewRat(1, 2)) > 0 {
			t.Fatalf("%q was read as %d (exact %v), off by %s", figure, got, exact, off)
		}
	})
}
