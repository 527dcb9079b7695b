package classifier

import "strings"

// Role says who wrote a message.
type Role uint8

// The roles of a chat.
const (
	System Role = iota + 1
	User
	Assistant
	Tool
)

// Message is one message of a chat, its text parts joined by a newline.
type Message struct {
	Role Role
	Text string
	// Media is whether it has parts that are not text: images, audio, documents.
	Media bool
}

// earlierAsks is how many user messages before the last one are scored with
// it: "commit it" after a hard coding turn must not look like two easy words.
const earlierAsks = 3

// Render makes the one text of a chat that is scored, in serving, training and
// evaluation alike: the last ask after up to three earlier ones, oldest first,
// parted by a blank line. An ask is what StripHarness leaves of a user message;
// a message of which it leaves nothing, the reminder or tool result that an
// agent sends as a user, is no ask, unless there is no other. System, assistant
// and tool messages are not scored. It returns "" when no user message has
// text, and when the last one that says anything is media alone: an image by
// itself must not be scored as the ask before it.
func Render(messages []Message) string {
	asks := asksOf(messages, earlierAsks+1)
	if len(asks) == 0 {
		return ""
	}
	if len(asks) == 1 {
		return asks[0]
	}
	var b strings.Builder
	for i := len(asks) - 1; i >= 0; i-- {
		b.WriteString(asks[i])
		if i > 0 {
			b.WriteString("\n\n")
		}
	}
	return b.String()
}

// LastAsk is the last ask of a chat, as Render scores it; "" where Render
// gives "".
func LastAsk(messages []Message) string {
	if asks := asksOf(messages, 1); len(asks) > 0 {
		return asks[0]
	}
	return ""
}

// MediaOnly tells whether the last user message that says anything is media
// without text.
func MediaOnly(messages []Message) bool {
	for i := len(messages) - 1; i >= 0; i-- {
		if m := &messages[i]; m.Role == User && (m.Media || strings.TrimSpace(m.Text) != "") {
			return strings.TrimSpace(m.Text) == ""
		}
	}
	return false
}

// asksOf returns at most n asks, the last one first.
func asksOf(messages []Message, n int) []string {
	if MediaOnly(messages) {
		return nil
	}
	var asks []string
	original := ""
	for i := len(messages) - 1; i >= 0 && len(asks) < n; i-- {
		m := &messages[i]
		if m.Role != User || strings.TrimSpace(m.Text) == "" {
			continue
		}
		if original == "" {
			original = m.Text
		}
		if ask := StripHarness(m.Text); ask != "" {
			asks = append(asks, ask)
		}
	}
	if len(asks) == 0 && original != "" {
		asks = append(asks, original)
	}
	return asks
}
