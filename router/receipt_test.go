package router_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/router"
)

func receiptOf(t require.TestingT, r *router.Rules, d router.Demand) ([]byte, error) {
	got, err := r.Decide(d)
	if err != nil {
		return nil, err
	}
	rec := router.Record{ID: "id", Time: time.Unix(7, 8), Decision: got, Demand: d, BundleDigest: "sha256:b", ConfigDigest: r.Digest, CallableUpstreams: []string{"u"}}
	if dep, ok := d.Provider.FirstDeployment(got.Chosen.Model); ok {
		rec.Provider = dep.Upstream.ID
	}
	text, err := rec.Receipt()
	require.NoError(t, err)
	return text, nil
}

// TestReceiptsHold makes decisions of any kind anew from their receipts, bit
// for bit.
func TestReceiptsHold(t *testing.T) {
	config := tableConfig + ruleLines
	r := rules(t, config)
	ids := []string{"", "e/cheap", "h/dear", "s/law"}
	ruleIDs := []string{"", "", "secret", "acme", "german", "agents"}
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		d.Rule = rapid.SampledFrom(ruleIDs).Draw(t, "rule")
		d.Explain = rapid.Bool().Draw(t, "explain")
		if rapid.Bool().Draw(t, "session") {
			d = withSession(d, router.SessionState{PreviousModel: rapid.SampledFrom(ids).Draw(t, "previous"), CachedTokens: 5000, Need: router.Tier(rapid.IntRange(0, 2).Draw(t, "need"))})
		}
		text, err := receiptOf(t, r, d)
		if err != nil {
			return
		}
		check, err := router.VerifyReceipt(text, []byte(config), "test")
		require.NoError(t, err)
		require.Empty(t, check.Faults)
	})
}

func TestAReceiptShowsWhatChanged(t *testing.T) {
	r := rules(t, tableConfig)
	text, err := receiptOf(t, r, demand(0.3, 0.8))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "\n")

	dearer := bytes.ReplaceAll([]byte(tableConfig), []byte(`output: "$10.00/M"`), []byte(`output: "$11.00/M"`))
	check, err := router.VerifyReceipt(text, dearer, "other.yaml")
	require.NoError(t, err)
	require.Len(t, check.Faults, 2)
	assert.Contains(t, check.Faults[0], "config_digest")
	assert.Contains(t, check.Faults[1], "decision.candidates")

	without := bytes.ReplaceAll([]byte(tableConfig), []byte("h/cheap"), []byte("h/other"))
	check, err = router.VerifyReceipt(text, without, "other.yaml")
	require.NoError(t, err)
	assert.Contains(t, check.Faults[len(check.Faults)-1], "decision.model")

	// Every byte counts.
	for i := range text {
		broken := bytes.Clone(text)
		broken[i] ^= 1
		check, err := router.VerifyReceipt(broken, []byte(tableConfig), "test")
		if err == nil {
			require.NotEmpty(t, check.Faults, "byte %d (%q) was changed and nobody saw it", i, text[i])
		}
	}
	_, err = router.VerifyReceipt(append([]byte(" "), bytes.Replace(text, []byte(`":`), []byte(`": `), 1)...), []byte(tableConfig), "test")
	require.ErrorIs(t, err, router.ErrReceipt)
	_, err = router.VerifyReceipt([]byte("{}"), []byte(tableConfig), "test")
	require.ErrorIs(t, err, router.ErrReceipt)
	_, err = router.VerifyReceipt(text, []byte("version: 2"), "bad.yaml")
	var bad *router.ConfigError
	require.ErrorAs(t, err, &bad)
}

// TestAReceiptOutlivesTheRing: what the journal keeps of an unexplained
// decision is enough.
func TestAReceiptOutlivesTheRing(t *testing.T) {
	r, _ := ruleRouter(t, tableConfig+ruleLines, 0.3, 0.8)
	req := ask("the patient asks for the name of a street")
	req.SessionID, req.Metadata = "s", map[string]string{"note": "canary-7"}
	_, err := r.Route(t.Context(), req)
	require.NoError(t, err)
	kept, _, err := r.Decision("id")
	require.NoError(t, err)
	text, err := kept.Receipt()
	require.NoError(t, err)
	check, err := router.VerifyReceipt(text, []byte(tableConfig+ruleLines), "test")
	require.NoError(t, err)
	assert.Empty(t, check.Faults)
	assert.Equal(t, router.EngineVersion, check.Receipt.Engine)
	for _, word := range []string{"patient", "street", "canary-7"} {
		assert.NotContains(t, string(text), word)
	}
}

func FuzzVerifyReceipt(f *testing.F) {
	text, err := receiptOf(f, rules(f, tableConfig), demand(0.3, 0.8))
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		router.VerifyReceipt(text, []byte(tableConfig), "fuzz") //nolint:errcheck // it must not panic
	})
}
