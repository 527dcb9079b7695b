package router

import (
	"math/bits"
	"strings"
)

// bytesToTokens estimates from above: three bytes a token is shorter than any
// tokenizer's average on prose or code, in the scripts that take one byte a
// letter, and about a letter a token in the others.
func bytesToTokens(n int) int64 { return int64(n+2) / 3 }

// MediaBytes is how many bytes of text a part of n bytes is taken to be as long as,
// beside MediaTokens for any part. Text is itself. A document is taken to hold a token
// for eight of its bytes, which pages of bare text can exceed, and a recording for
// sixteen, which no codec that speech survives does (32 tokens a second at 8 kbit/s).
// The size of an image says nothing about its tokens.
func MediaBytes(mime string, n int) int {
	kind, _, _ := strings.Cut(strings.ToLower(mime), "/")
	switch kind {
	case "text":
		return n
	case "application":
		return n * 3 / 8
	case "audio":
		return n * 3 / 16
	default:
		return 0
	}
}

// unscoredTokens counts what the request holds beside the scored text.
func unscoredTokens(req *Request, scored int) int64 {
	all := req.OtherBytes
	for _, m := range req.Messages {
		all += len(m.Text)
	}
	const perMessage = 8 // role markers of the providers' chat templates
	return bytesToTokens(max(all-scored, 0)) + int64(perMessage*len(req.Messages)) + int64(MediaTokens*req.MediaParts)
}

// leastTokens is the fewest tokens that a text is taken to cost, whatever the
// classifier counts. A WordPiece tokenizer makes one unknown token of a run of
// more than a hundred letters, and of a word with a letter that it does not
// know: a page of hex digits or of Thai counts as a handful, and what lies in
// the middle of a long text is not counted at all. Such parts cost a token for
// three bytes here, the rest one for six, which prose and code stay above by
// themselves. So a bound on cost holds on text made to look short.
func leastTokens(text string) int64 {
	dense := 0
	for text := text; text != ""; {
		// The last space within reach ends many words at once: nothing before it
		// can be too long.
		end := strings.LastIndexByte(text[:min(len(text), longestWord+1)], ' ')
		switch {
		case end >= 0:
			dense += highBytes(text[:end])
		case len(text) <= longestWord:
			end = len(text)
			dense += highBytes(text)
		default:
			if end = strings.IndexByte(text, ' '); end < 0 {
				end = len(text)
			}
			dense += end
		}
		text = text[min(end+1, len(text)):]
	}
	return bytesToTokens(dense) + int64(len(text)-dense)/6
}

// longestWord is where WordPiece tokenizers give a word up, in letters.
const longestWord = 100

// highBytes counts the bytes that are not ASCII, eight at a time.
func highBytes(s string) int {
	n := 0
	for ; len(s) >= 8; s = s[8:] {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		n += bits.OnesCount64(w & 0x8080808080808080)
	}
	for i := range len(s) {
		n += int(s[i] >> 7)
	}
	return n
}
