package server

import (
	"strconv"
	"strings"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// at is the path of a list's entry.
func at(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

// checkInput never shows any of the input in a fault.
func checkInput(f *faults, r *weirv1.RouteRequest) {
	switch in := r.GetInput().(type) {
	case *weirv1.RouteRequest_Text:
		if strings.TrimSpace(in.Text) == "" {
			f.add("text", "has %d bytes and nothing to score: send text with more than white space", len(in.Text))
		}
	case *weirv1.RouteRequest_Chat:
		checkChat(f, in.Chat.GetMessages())
	default:
		f.add("input", "is missing: set text or chat")
	}
}

func checkChat(f *faults, messages []*weirv1.Message) {
	if len(messages) > maxMessages {
		f.add("chat.messages", "has %d entries: use at most %d, the last ones", len(messages), maxMessages)
		return
	}
	asked, parts := false, 0
	for i, m := range messages {
		path := at("chat.messages", i)
		checkEnum(f, path+".role", m.GetRole())
		parts += len(m.GetParts())
		if parts > maxParts {
			f.add(path+".parts", "brings the parts of all messages above %d: send fewer", maxParts)
			return
		}
		if m.GetText() == "" && len(m.GetParts()) == 0 {
			f.add(path, "is empty: give it text or a part, or leave it out")
		}
		for j, p := range m.GetParts() {
			checkPart(f, at(path+".parts", j), m.GetRole(), p)
		}
		asked = asked || (m.GetRole() == weirv1.Role_ROLE_USER && (hasText(m) || hasMedia(m)))
	}
	if !asked {
		f.add("chat.messages", "has no message of ROLE_USER with text or media: there is nothing to answer")
	}
}

func hasMedia(m *weirv1.Message) bool {
	for _, p := range m.GetParts() {
		if p.GetMedia() != nil {
			return true
		}
	}
	return false
}

func hasText(m *weirv1.Message) bool {
	if strings.TrimSpace(m.GetText()) != "" {
		return true
	}
	for _, p := range m.GetParts() {
		if strings.TrimSpace(p.GetText()) != "" {
			return true
		}
	}
	return false
}

func checkPart(f *faults, path string, role weirv1.Role, part *weirv1.Part) {
	switch p := part.GetPart().(type) {
	case *weirv1.Part_Text:
		if p.Text == "" {
			f.add(path+".text", "is empty: leave the part out")
		}
	case *weirv1.Part_Media:
		checkMedia(f, path+".media", p.Media)
	case *weirv1.Part_ToolCall:
		if role != weirv1.Role_ROLE_ASSISTANT {
			f.add(path+".tool_call", "is in a message of %s: a tool call belongs to ROLE_ASSISTANT", role)
		}
		if p.ToolCall.GetName() == "" {
			f.add(path+".tool_call.name", "is missing: name the tool")
		}
	case *weirv1.Part_ToolResult:
		if role != weirv1.Role_ROLE_TOOL {
			f.add(path+".tool_result", "is in a message of %s: a tool result belongs to ROLE_TOOL", role)
		}
		if p.ToolResult.GetToolCallId() == "" {
			f.add(path+".tool_result.tool_call_id", "is missing: give the id of the tool call")
		}
	default:
		f.add(path, "is empty: set text, media, tool_call or tool_result, or leave the part out")
	}
}

func checkMedia(f *faults, path string, m *weirv1.Media) {
	if _, ok := mediaCapability(m.GetMimeType()); !ok {
		f.add(path+".mime_type", "is not supported or missing: use an image/, audio/, application/ or text/ type such as image/png")
	}
	switch s := m.GetSource().(type) {
	case *weirv1.Media_Data:
		if len(s.Data) == 0 {
			f.add(path+".data", "is empty: send the content or a url")
		}
	case *weirv1.Media_Url:
		if !strings.HasPrefix(s.Url, "https://") || len(s.Url) > maxURLBytes {
			f.add(path+".url", "has %d bytes or does not start with https://: use an https address of at most %d bytes", len(s.Url), maxURLBytes)
		}
	default:
		f.add(path, "has no source: set data or url")
	}
}

// mediaCapability is what a model needs to read a media type.
func mediaCapability(mime string) (router.Capabilities, bool) {
	kind, sub, ok := strings.Cut(mime, "/")
	if !ok || sub == "" || len(mime) > maxNameBytes {
		return 0, false
	}
	switch strings.ToLower(kind) {
	case "image":
		return router.Vision, true
	case "audio":
		return router.Audio, true
	case "application", "text":
		return router.Documents, true
	default:
		return 0, false
	}
}
