package sealed_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/eval/internal/sealed"
)

func TestOutcomesOpenOnlyAgainstACommitmentOverAllRows(t *testing.T) {
	var v sealed.Vault[int]
	l := sealed.NewLedger("a", "b")
	require.NoError(t, v.Put(1))
	require.NoError(t, v.Put(2))
	_, err := v.Open(sealed.Commitment{})
	require.ErrorContains(t, err, "no choices", "an empty commitment opens nothing")
	require.NoError(t, l.Add("x", "weak", "1"))
	early := sealed.NewLedger("a")
	require.NoError(t, early.Add("x", "weak"))
	_, err = v.Open(early.Commit())
	require.ErrorContains(t, err, "1 rows are committed, 2 are sealed")
	require.NoError(t, l.Add("y", "strong", "2"))
	c := l.Commit()
	require.ErrorIs(t, l.Add("z", "weak", "3"), sealed.ErrOpen, "nobody chooses after the commitment")
	rows, err := v.Open(c)
	require.NoError(t, err)
	assert.Equal(t, []int{1, 2}, rows)
	require.ErrorIs(t, v.Put(3), sealed.ErrOpen)
}

func TestDigestsBindEveryChoice(t *testing.T) {
	digest := func(rows ...[2]string) string {
		l := sealed.NewLedger("s")
		for _, r := range rows {
			require.NoError(t, l.Add(r[0], r[1]))
		}
		return l.Commit().Digests()["s"]
	}
	base := digest([2]string{"1", "weak"}, [2]string{"2", "strong"})
	// printf '1\0weak\n2\0strong\n' | sha256sum
	assert.Equal(t, "sha256:8ee566fac1b5b53f0af3dd513c63ebe3336d3ba46227b0213a91159cc89bfe3b", base)
	assert.NotEqual(t, base, digest([2]string{"2", "strong"}, [2]string{"1", "weak"}), "the order counts")
	assert.NotEqual(t, base, digest([2]string{"1", "strong"}, [2]string{"2", "strong"}))
	assert.NotEqual(t, digest([2]string{"ab", "c"}), digest([2]string{"a", "bc"}))
	require.Error(t, sealed.NewLedger("a", "b").Add("id", "one"))
}
