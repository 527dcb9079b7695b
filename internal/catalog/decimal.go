package catalog

import (
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"

	"github.com/weirhq/weir/router"
)

// Errors of a figure in a public catalog.
var (
	// ErrNoFigure means that the text is no decimal number.
	ErrNoFigure = errors.New("is no decimal number")
	// ErrOutOfRange means that the amount does not fit 63 bits of nano-dollars, or
	// that its text is longer than any price.
	ErrOutOfRange = errors.New("is out of range")
	// ErrNegative means a figure below zero, which some catalogs write for a price
	// that varies.
	ErrNegative = errors.New("is negative")
)

const (
	// maxFigure bounds a figure's text and its exponent, and with them the work.
	maxFigure = 64
	// A dollar a token is 10^15 nano-dollars for a million tokens.
	perToken, perRequest = 15, 9
)

// PerToken reads dollars a token, such as 2.5e-06 or 0.0000025, as nano-dollars
// for a million tokens, on the decimal digits: no floating point. exact is false
// where the figure is finer than a nano-dollar, as binary noise is
// (2.0000000000000002e-07); it is then rounded to the nearest, half up.
func PerToken(figure string) (n router.NanoUSD, exact bool, err error) {
	return scaled(figure, perToken)
}

// PerRequest reads dollars a request as nano-dollars, like PerToken.
func PerRequest(figure string) (n router.NanoUSD, exact bool, err error) {
	return scaled(figure, perRequest)
}

// scaled is the figure times 10^shift.
func scaled(figure string, shift int) (router.NanoUSD, bool, error) {
	digits, exponent, err := split(figure)
	if err != nil {
		return 0, false, fmt.Errorf("figure %.*q %w", maxFigure, figure, err)
	}
	v, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return 0, false, fmt.Errorf("figure %q %w", figure, ErrNoFigure)
	}
	exponent += shift
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
	exact := true
	if exponent >= 0 {
		v.Mul(v, power)
	} else {
		var rest big.Int
		v.QuoRem(v, power, &rest)
		exact = rest.Sign() == 0
		if rest.Lsh(&rest, 1).Cmp(power) >= 0 {
			v.Add(v, big.NewInt(1))
		}
	}
	if !v.IsInt64() {
		return 0, false, fmt.Errorf("figure %q %w", figure, ErrOutOfRange)
	}
	return router.NanoUSD(v.Int64()), exact, nil
}

// split takes a figure such as 12.5e-07 apart: its digits without the point,
// and the power of ten that they stand for.
func split(figure string) (digits string, exponent int, err error) {
	if len(figure) > maxFigure {
		return "", 0, ErrOutOfRange
	}
	if strings.HasPrefix(figure, "-") {
		if _, _, err := split(figure[1:]); err != nil || strings.HasPrefix(figure, "--") {
			return "", 0, ErrNoFigure
		}
		return "", 0, ErrNegative
	}
	mantissa := figure
	if at := strings.IndexAny(figure, "eE"); at >= 0 {
		mantissa = figure[:at]
		power := strings.TrimPrefix(figure[at+1:], "+")
		if exponent, err = strconv.Atoi(power); err != nil || strings.HasPrefix(power, "+") {
			return "", 0, ErrNoFigure
		}
		if exponent > maxFigure || exponent < -maxFigure {
			return "", 0, ErrOutOfRange
		}
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", 0, ErrNoFigure
	}
	return digits, exponent - len(fraction), nil
}
