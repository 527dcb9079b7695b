package router

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// languageBytes is how much of a text Language reads.
const languageBytes = 4 << 10

// wordsOf are the commonest words of the languages in Latin letters, a language
// a line: code, then words that no other of these languages has in common use,
// or that they share (a shared word counts for each).
const wordsOf = `en the and is are was of to in that it for with what how this you can please write not from
de der die das und ist nicht ein eine ich sie wie mit für auf den von zu bitte kannst wird dem
fr le la les et est une un des que qui dans pour pas vous je avec comment sur ce du
es el la los las y es una un que de en por para con como no se mi cómo qué
it il lo la gli e è una un che di non per con come sono del della mi questo
pt o os as e é uma um que de não para com como em por do da isso você
nl de het een en is niet van ik je dat met voor op hoe zijn wat te kan deze
pl i w nie jest na się że jak do to z czy co dla są po tak mi jest proszę
sv och är att det en ett som inte jag på för med hur av till den kan du om vad
tr ve bir bu için ne nasıl mi değil ile çok var olarak ben bana gibi daha lütfen da de mı`

// Languages returns the codes that Language can give.
func Languages() []string {
	out := []string{"zh", "ja", "ko", "ru", "uk", "ar", "hi", "el", "he", "th"}
	for line := range strings.Lines(wordsOf) {
		code, _, _ := strings.Cut(line, " ")
		out = append(out, code)
	}
	return out
}

// Language guesses the language of a text from its script and its commonest
// words: an ISO 639-1 code, "" where it cannot tell. It is cheap and coarse: it
// wants a sentence, reads the first 4 KiB, and knows Languages.
func Language(text string) string {
	text = text[:min(len(text), languageBytes)]
	if code := script(text); code != "latin" {
		return code
	}
	seen := map[string]int{}
	words := 0
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) }) {
		seen[word]++
		words++
	}
	best, code, second := 0, "", 0
	for line := range strings.Lines(wordsOf) {
		name, list, _ := strings.Cut(line, " ")
		n := 0
		for word := range strings.FieldsSeq(list) {
			n += seen[word]
		}
		if n > best {
			best, code, second = n, name, best
		} else {
			second = max(second, n)
		}
	}
	// Two common words, a tenth of the text, and ahead of the runner-up.
	if best < 2 || best*10 < words || best == second {
		return ""
	}
	return code
}

// script returns the language that a script belongs to alone, "latin", or ""
// where the text has no letters or a script of many languages.
func script(text string) string {
	counts := map[string]int{}
	letters := 0
	for _, r := range text {
		if r == utf8.RuneError || !unicode.IsLetter(r) {
			continue
		}
		letters++
		counts[scriptOf(r)]++
	}
	best, name := 0, ""
	for _, s := range [...]string{"latin", "han", "kana", "ko", "cyrillic", "uk", "ar", "hi", "el", "he", "th"} {
		if counts[s] > best {
			best, name = counts[s], s
		}
	}
	switch {
	case letters == 0:
		return ""
	case name == "kana" || (name == "han" && counts["kana"]*10 >= best):
		return "ja"
	case name == "han":
		return "zh"
	case name == "cyrillic" && counts["uk"]*50 >= best:
		return "uk"
	case name == "cyrillic":
		return "ru"
	default:
		return name
	}
}

func scriptOf(r rune) string {
	switch {
	case r < 0x250:
		return "latin"
	case strings.ContainsRune("іїєґІЇЄҐ", r):
		return "uk"
	}
	for _, s := range [...]struct {
		table *unicode.RangeTable
		name  string
	}{
		{unicode.Latin, "latin"},
		{unicode.Cyrillic, "cyrillic"},
		{unicode.Han, "han"},
		{unicode.Hiragana, "kana"},
		{unicode.Katakana, "kana"},
		{unicode.Hangul, "ko"},
		{unicode.Arabic, "ar"},
		{unicode.Devanagari, "hi"},
		{unicode.Greek, "el"},
		{unicode.Hebrew, "he"},
		{unicode.Thai, "th"},
	} {
		if unicode.Is(s.table, r) {
			return s.name
		}
	}
	return ""
}
