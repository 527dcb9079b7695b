package eval

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzRead holds that whatever is accepted is valid, and written and read again
// the same.
func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"id":"a","prompt":"x","outcomes":{"m":0.5},"cost_usd":{"m":1e-5}}` + "\n"))
	f.Add([]byte(`{"id":"a","messages":[{"role":"user","content":"\u2028"}],"difficulty":3,"skills":["s"]}`))
	f.Add([]byte("\n\r\n{}\n[1]\n\"\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var first []Case
		for c, err := range Read(bytes.NewReader(raw), "fuzz") {
			if err != nil {
				break
			}
			require.NoError(t, c.Validate())
			_, err := c.Text()
			require.NoError(t, err)
			first = append(first, c)
		}
		var out bytes.Buffer
		n, err := Write(&out, seqOf(first...))
		require.NoError(t, err)
		require.Equal(t, len(first), n)
		var again bytes.Buffer
		_, err = Write(&again, Read(bytes.NewReader(out.Bytes()), "again"))
		require.NoError(t, err)
		assert.Equal(t, out.String(), again.String())
	})
}

// FuzzAnswers holds that no model's output stops an importer.
func FuzzAnswers(f *testing.F) {
	f.Add(`{"reasoning":"r","answer":[1,{"a":null}]} }{`)
	f.Add(`['it\'s', "x"]`)
	f.Add("$1,234/0 answer is (B")
	f.Fuzz(func(_ *testing.T, text string) {
		q := &zeroEvalItem{ID: "x", Output: []string{text}, Question: "q", Answer: text, Choices: []string{"a"}, Correct: "a"}
		gradeCrux(q)
		gradeMath(q)
		gradeChoice(q)
		mmluProLetter(text)
		pythonStrings(text)
	})
}
