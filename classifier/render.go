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
}

// earlierAsks is how many user messages before the last one are scored with
// it: "commit it" after a hard coding turn must not look like two easy words.
const earlierAsks = 3

// Render makes the one text of a chat that is scored, in serving, training and
// evaluation alike: the last user message with something in it, after up to
// three earlier user messages, oldest first, parted by a blank line. System,
// assistant and tool messages are not scored. It returns "" when no user
// message has text.
func Render(messages []Message) string {
	var asks []string
	for i := len(messages) - 1; i >= 0 && len(asks) <= earlierAsks; i-- {
		if m := messages[i]; m.Role == User && strings.TrimSpace(m.Text) != "" {
			asks = append(asks, m.Text)
		}
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
