package eval

import (
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// gramWords is the length of the word sequences that tell a repeated text, as
	// is usual for contamination.
	gramWords = 13
	// signatureSize and bands of MinHash: 16 bands of 4 find a Jaccard likeness of
	// .8 with a probability above .99, and one of .3 with .12.
	signatureSize = 64
	bands         = 16
	// alike is the likeness that counts, as estimated from the signature.
	alike = 0.8
	// leakShare of a prompt's 13-grams has to be known from training rows.
	leakShare = 0.5
	// shingleWords are what MinHash reads.
	shingleWords = 3
)

// textShape is what rules keep of a prompt: no text.
type textShape struct {
	runes, bytes int
	// exact is a digest of the letters and digits, in lower case.
	exact [16]byte
	// grams are digests of each sequence of thirteen words.
	grams []uint64
	// signature is the MinHash of the sequences of three words.
	signature []uint64
	// open: the text ends in a letter, a digit, a comma or a blank; tail is a
	// digest of its end; marked: it ends in "[truncated]" or the like.
	open   bool
	tail   string
	marked bool
}

// wordsOf splits a text into words of letters and digits in lower case.
func wordsOf(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

func shapeOf(text string) textShape {
	words := wordsOf(text)
	s := textShape{runes: utf8.RuneCountInString(text), bytes: len(text)}
	sum := sha256.Sum256([]byte(strings.Join(words, " ")))
	if len(words) == 0 { // signs only: they are the text
		sum = sha256.Sum256([]byte("\x00" + text))
	}
	copy(s.exact[:], sum[:])
	hashes := make([]uint64, len(words))
	for i, w := range words {
		h := fnv.New64a()
		h.Write([]byte(w)) //nolint:errcheck // a hash never fails
		hashes[i] = h.Sum64()
	}
	s.grams = sequences(hashes, gramWords)
	s.signature = minHash(sequences(hashes, min(shingleWords, max(len(words), 1))))
	last, _ := utf8.DecodeLastRuneInString(text)
	s.open = unicode.IsLetter(last) || unicode.IsDigit(last) || unicode.IsSpace(last) || last == ',' || last == '-' || last == utf8.RuneError
	end := []rune(text[max(0, len(text)-32):])
	tail := sha256.Sum256([]byte(string(end[max(0, len(end)-8):])))
	s.tail = string(tail[:8])
	lower := strings.ToLower(strings.TrimSpace(text))
	for _, mark := range []string{"[truncated]", "(truncated)", "<truncated>", "[...]", "…[truncated]"} {
		s.marked = s.marked || strings.HasSuffix(lower, mark)
	}
	return s
}

// sequences are digests of each n consecutive words.
func sequences(words []uint64, n int) []uint64 {
	if len(words) < n {
		return nil
	}
	out := make([]uint64, 0, len(words)-n+1)
	for i := range len(words) - n + 1 {
		h := uint64(n)
		for _, w := range words[i : i+n] {
			h = mix(h ^ w)
		}
		out = append(out, h)
	}
	return out
}

// mix is the finaliser of SplitMix64.
func mix(h uint64) uint64 {
	h += 0x9e3779b97f4a7c15
	h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9
	h = (h ^ (h >> 27)) * 0x94d049bb133111eb
	return h ^ (h >> 31)
}

func minHash(set []uint64) []uint64 {
	if len(set) == 0 {
		return nil
	}
	out := make([]uint64, signatureSize)
	for k := range out {
		low := ^uint64(0)
		for _, v := range set {
			low = min(low, mix(v^mix(uint64(k))))
		}
		out[k] = low
	}
	return out
}

// leakIndex holds training rows.
type leakIndex struct {
	exact map[[16]byte]bool
	grams map[uint64]int32 // in how many rows
	bands map[[2]uint64][]int32
	signs [][]uint64
}

func (x *leakIndex) add(s *textShape) {
	x.exact[s.exact] = true
	own := slices.Clone(s.grams)
	slices.Sort(own)
	for _, g := range slices.Compact(own) {
		x.grams[g]++
	}
	if s.signature == nil {
		return
	}
	at := int32(len(x.signs))
	x.signs = append(x.signs, s.signature)
	for b := range bands {
		k := bandKey(s.signature, b)
		x.bands[k] = append(x.bands[k], at)
	}
}

func bandKey(signature []uint64, b int) [2]uint64 {
	const rows = signatureSize / bands
	h := uint64(b)
	for _, v := range signature[b*rows : (b+1)*rows] {
		h = mix(h ^ v)
	}
	return [2]uint64{uint64(b), h}
}

// has tells whether a prompt is nearly one of the training rows. boilerplate
// are sequences that many prompts share, such as a fixed instruction.
func (x *leakIndex) has(s *textShape, boilerplate func(uint64) bool) bool {
	if x.exact[s.exact] {
		return true
	}
	var own, known int
	for _, g := range s.grams {
		if boilerplate(g) {
			continue
		}
		own++
		if x.grams[g] > 0 {
			known++
		}
	}
	if own >= 3 && float64(known) >= leakShare*float64(own) {
		return true
	}
	if s.signature == nil || own < len(s.grams) {
		return false // a shared instruction would make all prompts alike; the sequences above tell
	}
	for b := range bands {
		for _, at := range x.bands[bandKey(s.signature, b)] {
			same := 0
			for k, v := range x.signs[at] {
				if v == s.signature[k] {
					same++
				}
			}
			if float64(same) >= alike*signatureSize {
				return true
			}
		}
	}
	return false
}

// leaks holds rows to measure with against training rows.
func (l *linter) leaks(train []Source) error {
	x := &leakIndex{map[[16]byte]bool{}, map[uint64]int32{}, map[[2]uint64][]int32{}, nil}
	trained := 0
	add := func(s *textShape) { x.add(s); trained++ }
	shared, measured := map[uint64]int32{}, 0
	for i := range l.rows {
		r := &l.rows[i]
		if r.split == SplitTrain {
			add(&r.text)
			continue
		}
		measured++
		own := slices.Clone(r.text.grams)
		slices.Sort(own)
		for _, g := range slices.Compact(own) {
			shared[g]++
		}
	}
	for _, src := range train {
		for c, err := range src.Cases {
			if err != nil {
				return fmt.Errorf("lint: training set %s: %w", src.Name, err)
			}
			if c.Split == SplitEval || c.Split == SplitOverlap {
				continue
			}
			text, err := c.Text()
			if err != nil {
				return fmt.Errorf("lint: training set %s: id %q: %w", src.Name, c.ID, err)
			}
			s := shapeOf(text)
			add(&s)
		}
	}
	if trained == 0 {
		return nil
	}
	common := func(n int) int32 { return int32(max(5, n/200)) }
	boilerplate := func(g uint64) bool { return shared[g] > common(measured) || x.grams[g] > common(trained) }
	var ids []string
	for i := range l.rows {
		if r := &l.rows[i]; r.split != SplitTrain && x.has(&r.text, boilerplate) {
			ids = append(ids, r.id)
		}
	}
	l.report(LintLeak, 0.005, ids, measured, "%d of %d prompts to measure with are nearly those of training rows (the same words, half of their 13-word sequences, or MinHash likeness of %v): leave them out", len(ids), measured, alike)
	return nil
}
