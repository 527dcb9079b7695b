package router_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/router"
)

func TestASlipIsPointedAt(t *testing.T) {
	r := rules(t, string(router.DefaultConfig()))
	for id, want := range map[string]string{
		"opnai": `provider "opnai" is no upstream of this config: did you mean "openai"?`, "athropic": `"anthropic"?`, "gorq": `did you mean "groq"?`,
		"somebody-else": `provider "somebody-else" is no upstream of this config`, strings.Repeat("x", 5000): `is no upstream`,
	} {
		_, err := r.Decide(router.Demand{Provider: router.ProviderRules{Only: []string{id}}})
		var none *router.NoEligibleError
		require.ErrorAs(t, err, &none)
		assert.Contains(t, err.Error(), want)
		assert.Less(t, len(err.Error()), 500)
		if !strings.Contains(want, "?") {
			assert.NotContains(t, err.Error(), "did you mean")
		}
	}
	_, err := r.Decide(router.Demand{Provider: router.ProviderRules{Only: []string{"cohere"}}})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "is no upstream", "an upstream whose models are all denied is no slip")
	for id, want := range map[string]string{
		"openai/gpt-6-lunna": `ListModels lists the ids: did you mean "openai/gpt-6-luna"?`, "gpt-6": "ListModels lists the ids", "anthropic/claude-opus-55": `did you mean "anthropic/claude-opus-5-5"?`,
	} {
		_, err := r.Decide(router.Demand{Override: router.Override{Models: []string{id}}})
		require.ErrorIs(t, err, router.ErrUnknownModel)
		assert.True(t, strings.HasSuffix(err.Error(), want), err.Error())
	}
}
