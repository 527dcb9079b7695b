package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reference parses a whole stream the slow and plain way.
func reference(text string) []string {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	lines := strings.Split(text, "\n")
	var out []string
	var name string
	var data []string
	for _, line := range lines[:len(lines)-1] { // the last has no end
		if line == "" {
			if data != nil {
				out = append(out, name+"|"+strings.Join(data, "\n"))
			}
			name, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "data":
			data = append(data, value)
		case "event":
			name = value
		}
	}
	return out
}

func parse(src io.Reader) ([]string, error) {
	r := newReader(src, 64<<20)
	var out []string
	for {
		ev, err := r.next()
		if err != nil {
			return out, err
		}
		out = append(out, ev.name+"|"+string(ev.data))
	}
}

// slices is a reader that gives the text in two reads, cut at a byte.
func slices2(text []byte, at int) io.Reader {
	return io.MultiReader(bytes.NewReader(text[:at]), bytes.NewReader(text[at:]))
}

func TestSSEForms(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                       nil,
		"data: a\n\n":                            {"|a"},
		"data:a\n\n":                             {"|a"},
		"data:  a\n\n":                           {"| a"},
		"data: a\r\rdata: b\r\r":                 {"|a", "|b"},
		"data: a\r\n\r\ndata: b\r\n\r\n":         {"|a", "|b"},
		"\ufeffdata: a\n\n":                      {"|a"},
		"\ufeff\ufeffdata: a\n\n":                nil,
		": note\ndata: a\n: other\ndata: b\n\n":  {"|a\nb"},
		"event: x\ndata: a\n\ndata: b\n\n":       {"x|a", "|b"},
		"event: x\n\ndata: b\n\n":                {"|b"},
		"data\n\n":                               {"|"},
		"data: a\n":                              nil, // no blank line: cut
		"data: a\n\ndata: b":                     {"|a"},
		"id: 1\nretry: 5\nother: z\ndata: a\n\n": {"|a"},
		"data: a\x00b\n\n":                       {"|a\x00b"},
		"\n\n\ndata: a\n\n\n\n":                  {"|a"},
	} {
		got, err := parse(strings.NewReader(text))
		assert.ErrorIs(t, err, io.EOF)
		assert.Equal(t, want, got, "%q", text)
		assert.Equal(t, want, reference(text), "the reference: %q", text)
	}
}

// A stream means the same however its bytes arrive.
func TestSlicedAtEveryByte(t *testing.T) {
	files, err := filepath.Glob("testdata/*.sse")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 7)
	for _, file := range files {
		dialect, _, _ := strings.Cut(filepath.Base(file), "-")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		want, err := os.ReadFile(strings.TrimSuffix(file, ".sse") + ".want")
		require.NoError(t, err)
		for name, form := range map[string][]byte{
			"lf": text, "crlf": bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n")), "cr": bytes.ReplaceAll(text, []byte("\n"), []byte("\r")),
			"bom": append([]byte("\xef\xbb\xbf"), text...), "comments": bytes.ReplaceAll(text, []byte("\ndata: "), []byte("\n:c\nid:\ndata: ")),
		} {
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				// Every byte as it is recorded; the other forms also byte by byte below.
				step := 11
				if name == "lf" || os.Getenv("WEIR_CAMPAIGN") != "" {
					step = 1
				}
				for at := 0; at <= len(form); at += step {
					got, err := decodeAll(t, dialect, slices2(form, at))
					require.NoError(t, err, "cut at %d", at)
					require.Equal(t, string(want), describe(got), "cut at %d", at)
				}
				got, err := decodeAll(t, dialect, iotest.OneByteReader(bytes.NewReader(form)))
				require.NoError(t, err)
				require.Equal(t, string(want), describe(got))
			})
		}
	}
}

// No prefix of a stream is whole, unless all that is missing is behind the
// event that makes it so.
func TestNoPrefixIsWhole(t *testing.T) {
	files, err := filepath.Glob("testdata/*.sse")
	require.NoError(t, err)
	for _, file := range files {
		dialect, _, _ := strings.Cut(filepath.Base(file), "-")
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for at := range len(text) {
			_, err := decodeAll(t, dialect, bytes.NewReader(text[:at]))
			require.Error(t, err, "%s cut at %d of %d is shown as whole", file, at, len(text))
		}
	}
}

// 500 streams of random forms, each in random slices.
func TestRandomStreamsAreTheReference(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2))
	pieces := []string{"data: ", "data", ":", "event: e", "\n", "\r", "\r\n", "\n\n", "x", " ", "\ufeff", "id: 3", ": c", "日", "\x00", "data: {}\n\n"}
	for n := range 500 {
		var b strings.Builder
		for range random.IntN(60) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		text := b.String()
		want := reference(text)
		for _, src := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text)), iotest.DataErrReader(strings.NewReader(text))} {
			got, err := parse(src)
			require.ErrorIs(t, err, io.EOF)
			require.Equal(t, want, got, "stream %d: %q", n, text)
		}
	}
}

func TestSSEBounds(t *testing.T) {
	long := strings.Repeat("x", maxEventBytes)
	_, err := parse(strings.NewReader("data: " + long + "\n\n"))
	assert.ErrorIs(t, err, errEventTooLong, "a line")
	_, err = parse(strings.NewReader("data: " + long)) // no end at all
	assert.ErrorIs(t, err, errEventTooLong, "a line without an end")
	half := "data: " + long[:maxEventBytes*2/3] + "\n"
	_, err = parse(strings.NewReader(half + half + "\n"))
	assert.ErrorIs(t, err, errEventTooLong, "an event of two lines")
	got, err := parse(strings.NewReader(half + "\n" + half + "\n"))
	assert.ErrorIs(t, err, io.EOF)
	assert.Len(t, got, 2)

	r := newReader(strings.NewReader(strings.Repeat("data: a\n\n", 100)), 500)
	for err = nil; err == nil; {
		_, err = r.next()
	}
	assert.ErrorIs(t, err, errStreamTooLong)

	broken := errors.New("broken")
	got, err = parse(io.MultiReader(strings.NewReader("data: a\n\ndata: b\n"), iotest.ErrReader(broken)))
	assert.ErrorIs(t, err, broken)
	assert.Equal(t, []string{"|a"}, got)
	_, err = parse(silent{})
	assert.ErrorIs(t, err, io.ErrNoProgress)
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

func FuzzSSE(f *testing.F) {
	for _, s := range []string{"data: a\n\n", "\ufeffevent: x\r\ndata: a\r\n\r\n", ":\rdata\r\r", "data: [DONE]\n\n", "data: a\ndata: b\n\n"} {
		f.Add([]byte(s), uint(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		want := reference(string(text))
		for _, src := range []io.Reader{bytes.NewReader(text), slices2(text, int(at%uint(len(text)+1))), iotest.OneByteReader(bytes.NewReader(text))} {
			got, err := parse(src)
			if errors.Is(err, errEventTooLong) {
				return
			}
			if fmt.Sprint(got) != fmt.Sprint(want) || !errors.Is(err, io.EOF) {
				t.Fatalf("%q: got %q and %v, want %q", text, got, err, want)
			}
		}
	})
}

func fuzzDialect(f *testing.F, dialect string) {
	files, err := filepath.Glob("testdata/" + dialect + "-*.sse")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, uint(len(text)/2))
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		whole, err := decodeAll(t, dialect, bytes.NewReader(text))
		sliced, slicedErr := decodeAll(t, dialect, slices2(text, int(at%uint(len(text)+1))))
		if describe(whole) != describe(sliced) || (err == nil) != (slicedErr == nil) {
			t.Fatalf("slicing changes the stream: %v, %v", err, slicedErr)
		}
		finishes := 0
		for i := range whole {
			c := &whole[i]
			if c.Finish != 0 {
				finishes++
			}
			if c.Usage != nil && c.Usage.Validate() != nil {
				t.Fatalf("usage makes no sense: %v", c.Usage.Validate())
			}
		}
		if (err == nil) != (finishes == 1) || finishes > 1 {
			t.Fatalf("%d finish reasons and %v", finishes, err)
		}
	})
}

func FuzzOpenAI(f *testing.F)    { fuzzDialect(f, "openai") }
func FuzzAnthropic(f *testing.F) { fuzzDialect(f, "anthropic") }
func FuzzGemini(f *testing.F)    { fuzzDialect(f, "gemini") }
