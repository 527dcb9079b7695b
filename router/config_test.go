package router_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func none(string) string { return "" }

func TestDefaultConfigIsSound(t *testing.T) {
	r, err := router.ParseConfig(router.DefaultConfig(), "embedded", none)
	require.NoError(t, err)
	tiers := map[router.Tier]int{}
	for _, m := range r.Catalog.Models() {
		tiers[m.Tier]++
		assert.True(t, m.Price.Input.Known && m.Price.Output.Known && m.Price.Source != "" && m.Price.Date != "", m.ID)
		assert.False(t, m.Callable(), "%s: no key is set", m.ID)
		assert.Nil(t, m.Quality, "%s: nothing was measured on it", m.ID)
	}
	for _, tier := range []router.Tier{router.Efficient, router.HighPerformance, router.DomainSpecialist} {
		assert.Positive(t, tiers[tier], tier)
	}
	assert.Regexp(t, `^sha256:[0-9a-f]{64}$`, r.Digest)
	keyed, err := router.ParseConfig(router.DefaultConfig(), "embedded", func(k string) string { return map[string]string{"OPENAI_API_KEY": "x"}[k] })
	require.NoError(t, err)
	m, _ := keyed.Catalog.Model("openai/gpt-5.6-sol")
	assert.True(t, m.Callable())
}
