package classifier

import (
	"math"
	"strings"
	"unicode/utf8"
)

// Clean makes text safe for native code and leaves out what must not count: every
// NUL becomes U+FFFD, because C strings end at a NUL and a prompt would be scored by
// its first half only, and white space around the text is dropped, because a newline
// after a question makes it no other question. It returns ErrInvalidText for text
// that is not UTF-8 and ErrNoContent for text of only white space. Text that needs no
// change is returned as it is.
func Clean(text string) (string, error) {
	if !utf8.ValidString(text) {
		return "", ErrInvalidText
	}
	if nuls := strings.Count(text, "\x00"); nuls > 0 {
		text = replaceNUL(text, nuls)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", ErrNoContent
	}
	return text, nil
}

// replaceNUL takes one pass: strings.ReplaceAll looks for each NUL anew, which makes
// 40 ms of a 4 MB text of nothing else.
func replaceNUL(text string, nuls int) string {
	var b strings.Builder
	b.Grow(len(text) + nuls*(len("\uFFFD")-1))
	for i := range len(text) {
		if c := text[i]; c != 0 {
			b.WriteByte(c)
		} else {
			b.WriteString("\uFFFD")
		}
	}
	return b.String()
}

// CutWindow cuts clean text that is longer than headBytes+tailBytes into a head
// of at most headBytes and a tail of at most tailBytes, each moved inward to a
// rune boundary. Shorter text comes back whole as head, with cut false. It
// bounds what a tokenizer is given: a tokenizer's own truncation does not.
func CutWindow(text string, headBytes, tailBytes int) (head, tail string, cut bool) {
	if len(text) <= headBytes+tailBytes {
		return text, "", false
	}
	end := headBytes
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	start := len(text) - tailBytes
	for start < len(text) && !utf8.RuneStart(text[start]) {
		start++
	}
	return text[:end], text[start:], true
}

// ShapeSize is the length of the shape vector, version ShapeVersion.
const (
	ShapeSize    = 12
	ShapeVersion = 1
)

// Byte classes of Shape; a byte may be in several.
const (
	classSpace = 1 << iota
	classDigit
	classUpper
	classPunct
	classHigh
	classCode
	classMath
)

// Shape describes the whole of a clean text by its bytes: sizes, and shares of
// digits, capitals, punctuation, code and mathematics marks. models/README.md
// defines each value; scripts/train computes the same in Python. It reads the
// text once and allocates nothing.
func Shape(text string) [ShapeSize]float32 {
	table := shapeClasses()
	// Two bytes a turn and two banks of counters: a run of one byte would otherwise
	// wait for its own sum, and most bytes are in the middle of a word.
	var count, odd [256]int
	words, longest, start := 0, 0, 0
	endWord := func(at int) {
		if at > start {
			words++
			longest = max(longest, at-start)
		}
		start = at + 1
	}
	for i := 0; i+1 < len(text); i += 2 {
		c, d := text[i], text[i+1]
		count[c]++
		odd[d]++
		if (table[c]|table[d])&classSpace == 0 {
			continue
		}
		if table[c]&classSpace != 0 {
			endWord(i)
		}
		if table[d]&classSpace != 0 {
			endWord(i + 1)
		}
	}
	if last := len(text) - 1; len(text)%2 == 1 {
		count[text[last]]++
		if table[text[last]]&classSpace != 0 {
			endWord(last)
		}
	}
	endWord(len(text))
	for c, n := range odd {
		count[c] += n
	}
	var digits, upper, punct, high, code, maths int
	for c, n := range count {
		class := table[c]
		if class&classDigit != 0 {
			digits += n
		}
		if class&classUpper != 0 {
			upper += n
		}
		if class&classPunct != 0 {
			punct += n
		}
		if class&classHigh != 0 {
			high += n
		}
		if class&classCode != 0 {
			code += n
		}
		if class&classMath != 0 {
			maths += n
		}
	}
	share := func(n int) float32 { return float32(float64(n) / float64(max(len(text), 1))) }
	size := func(n int) float32 { return float32(math.Log1p(float64(n))) }
	return [ShapeSize]float32{
		size(len(text)), size(words), size(count['\n'] + 1), size(digits),
		share(digits), share(upper), share(punct), share(high), share(code), share(maths),
		size(count['?']), size(longest),
	}
}

func shapeClasses() [256]uint8 {
	var t [256]uint8
	mark := func(set string, class uint8) {
		for i := range len(set) {
			t[set[i]] |= class
		}
	}
	mark(" \t\n\v\f\r", classSpace)
	mark("0123456789", classDigit)
	mark("ABCDEFGHIJKLMNOPQRSTUVWXYZ", classUpper)
	mark("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", classPunct)
	mark("{};=_<>()[]`", classCode)
	mark("+-*/^%$\\=", classMath)
	for c := 0x80; c < 0x100; c++ {
		t[c] |= classHigh
	}
	return t
}
