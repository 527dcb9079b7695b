package eval

import (
	"crypto/sha256"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/weirhq/weir/classifier"
)

func someScores(i int) classifier.Scores {
	s := classifier.Scores{
		QEfficient: classifier.Estimate{Value: .1 * float64(i%9), Low: .01, High: .9}, QHigh: classifier.Estimate{Value: .5, Low: .4, High: .6},
		OutputTokens: float64(i), OutputTokensP90: float64(2 * i), InputTokens: i, TruncatedTokens: i / 2,
		TokensEstimated: i%2 == 0, OutOfDistribution: i%3 == 0, Lane: []string{"fast", "base", "lexical"}[i%3],
	}
	for d := range s.Domains {
		s.Domains[d] = 1 / float64(len(s.Domains)+i)
	}
	return s
}

func key(i int) [sha256.Size]byte { return sha256.Sum256([]byte{byte(i), byte(i >> 8), 7}) }

func cacheFile(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "scores-*.bin"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	return files[0]
}

func TestCacheGivesBackExactlyWhatItWasGiven(t *testing.T) {
	dir := t.TempDir()
	c, err := openCache(dir, "d")
	require.NoError(t, err)
	const n = 700 // some flushed, some not
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := w; i < n; i += 4 {
				s := someScores(i)
				assert.NoError(t, c.put(key(i), &s))
				got, ok, err := c.get(key(i))
				assert.NoError(t, err)
				assert.True(t, ok)
				assert.Equal(t, s, got)
			}
		})
	}
	group.Wait()
	require.NoError(t, c.close())
	again, err := openCache(dir, "d")
	require.NoError(t, err)
	for i := range n {
		got, ok, err := again.get(key(i))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, someScores(i), got)
	}
	_, ok, err := again.get(key(n))
	require.NoError(t, err)
	assert.False(t, ok)
	require.NoError(t, again.close())
}

func TestCacheSurvivesAKill(t *testing.T) {
	dir := t.TempDir()
	fill := func(n int) {
		c, err := openCache(dir, "d")
		require.NoError(t, err)
		for i := range n {
			s := someScores(i)
			require.NoError(t, c.put(key(i), &s))
		}
		require.NoError(t, c.close())
	}
	fill(10)
	name := cacheFile(t, dir)
	whole, err := os.ReadFile(name)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, whole[:len(whole)-recordBytes/2], 0o600)) // a half record at the end
	c, err := openCache(dir, "d")
	require.NoError(t, err)
	_, ok, err := c.get(key(9))
	require.NoError(t, err)
	assert.False(t, ok, "the half record counts as absent")
	_, ok, err = c.get(key(8))
	require.NoError(t, err)
	assert.True(t, ok)
	require.NoError(t, c.close())
	fill(10)
	repaired, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, whole, repaired)

	repaired[headerBytes+3*recordBytes+40] ^= 1 // a flipped bit in record 3
	require.NoError(t, os.WriteFile(name, repaired, 0o600))
	c, err = openCache(dir, "d")
	require.NoError(t, err)
	_, ok, err = c.get(key(3))
	require.NoError(t, err)
	assert.False(t, ok, "a damaged score is computed again, not believed")
	require.NoError(t, c.close())

	require.NoError(t, os.WriteFile(name, []byte("something else entirely, long enough to hold a header of this cache"), 0o600))
	_, err = openCache(dir, "d")
	require.ErrorContains(t, err, "remove it")
}

func TestScorerPassesOverWhatCannotBeScored(t *testing.T) {
	s, err := NewScorer(&spoken{}, t.TempDir())
	require.NoError(t, err)
	_, ok, err := s.Score(t.Context(), "nothing to read")
	require.NoError(t, err)
	assert.False(t, ok)
	_, ok, err = s.Score(t.Context(), "(low 0.5, high 0.6)")
	require.NoError(t, err)
	assert.True(t, ok)
	_, _, err = s.Score(t.Context(), "(low 0.5, high 0.6)")
	require.NoError(t, err)
	assert.Equal(t, int64(1), s.Hits())
	require.NoError(t, s.Close())
	_, err = NewScorer(nil, "")
	require.Error(t, err)
}
