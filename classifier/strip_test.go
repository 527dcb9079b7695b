package classifier_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/weirhq/weir/classifier"
)

// TestRenderCases holds Render against the file that the Python twin is held
// against too.
func TestRenderCases(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("testdata", "render.json"))
	require.NoError(t, err)
	var cases []struct {
		Name     string
		Messages []struct {
			Role, Content string
			Media         bool
		}
		Want string
	}
	require.NoError(t, json.Unmarshal(raw, &cases))
	require.NotEmpty(t, cases)
	roles := map[string]classifier.Role{"system": classifier.System, "user": classifier.User, "assistant": classifier.Assistant, "tool": classifier.Tool}
	for _, c := range cases {
		messages := make([]classifier.Message, len(c.Messages))
		for i, m := range c.Messages {
			messages[i] = classifier.Message{Role: roles[m.Role], Text: m.Content, Media: m.Media}
		}
		got := classifier.Render(messages)
		assert.Equal(t, c.Want, got, c.Name)
		assert.True(t, strings.HasSuffix(got, classifier.LastAsk(messages)), c.Name)
	}
}

func TestStripLeavesPeoplesTextAlone(t *testing.T) {
	for _, text := range []string{
		"  What does <system-reminder> mean in a prompt?  ",
		"Explain this XML:\n<note><to>Tove</to></note>\n",
		"<system-reminder>never closed",
		"inline <tool_result>x</tool_result> is mine",
		"<SYSTEM-REMINDER>\nx\n</SYSTEM-REMINDER>",
		"<task-list>\na\n</task-list>",
		"Human rights: what are they?",
		"[a] Result of the poll?",
		"if a<b && c>d { }",
		"```\nfoo := map[string]int{}\n```\n",
	} {
		assert.Equal(t, text, classifier.StripHarness(text))
	}
}

// TestStripLaws: stripping twice is stripping once, nothing is added, and a
// text without a tag's or a mark's first letter is untouched.
func TestStripLaws(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"hello", "\n", " ", "<system-reminder>", "</system-reminder>", "<task>", "</task>", "<file_content path=\"x\">", "</file_content>",
		"[read_file for 'x'] Result:\n", "Human:", "\n\nAssistant:", "<", ">", "ü", "<b>", "fix the bug",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 20).Draw(t, "pieces"), "")
		got := classifier.StripHarness(text)
		require.LessOrEqual(t, len(got), len(text))
		chat := []classifier.Message{{Role: classifier.User, Text: text}}
		require.Equal(t, strings.TrimSpace(text) == "", classifier.Render(chat) == "", "a text with something in it is never scored as nothing")
		plain := strings.NewReplacer("<", "", "[", "", "Human:", "", "Assistant:", "").Replace(text)
		require.Equal(t, plain, classifier.StripHarness(plain))
	})
}

// TestStripTakesOnePass: four megabytes of open tags that nothing closes must
// not take quadratic work.
func TestStripTakesOnePass(t *testing.T) {
	cost := func(n int) time.Duration {
		text := strings.Repeat("<task>\n<system-reminder>\n<file_content>\n", n)
		best := time.Hour
		for range 3 {
			begin := time.Now()
			classifier.StripHarness(text)
			best = min(best, time.Since(begin))
		}
		return best
	}
	small, large := cost(1000), cost(32_000)
	assert.Less(t, large, 32*8*max(small, 50*time.Microsecond), "32 times the text took %s for %s", large, small)
}

func TestMediaOnly(t *testing.T) {
	ask := classifier.Message{Role: classifier.User, Text: "prove it"}
	image := classifier.Message{Role: classifier.User, Media: true}
	assert.True(t, classifier.MediaOnly([]classifier.Message{ask, image}))
	assert.Empty(t, classifier.Render([]classifier.Message{ask, image}), "the ask before it is not what is asked now")
	assert.Empty(t, classifier.LastAsk([]classifier.Message{ask, image}))
	assert.False(t, classifier.MediaOnly([]classifier.Message{image, ask}))
	assert.False(t, classifier.MediaOnly([]classifier.Message{ask, {Role: classifier.User, Text: "and this?", Media: true}}))
	assert.False(t, classifier.MediaOnly([]classifier.Message{ask, {Role: classifier.Assistant, Media: true}}))
	assert.False(t, classifier.MediaOnly(nil))
}
