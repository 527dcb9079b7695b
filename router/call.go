package router

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/weirhq/weir/classifier"
)

// Input is what a model is given to answer.
type Input struct {
	Messages []ChatMessage
	Tools    []ToolDefinition
	Choice   ToolChoice
	Format   ResponseFormat
	Sampling Sampling
}

// ChatMessage is one message with its parts in order.
type ChatMessage struct {
	Role  classifier.Role
	Parts []Part
}

// Part is one part of a message: exactly one of its fields is set.
type Part struct {
	Text   string
	Media  *Media
	Call   *ToolCall
	Result *ToolResult
}

// Media is an image, audio or document: its bytes, or an https address that the
// provider fetches.
type Media struct {
	MIMEType string
	Data     []byte
	URL      string
}

// ToolCall is a call that a model asked for. Arguments is a JSON object.
type ToolCall struct {
	ID, Name  string
	Arguments string
}

// ToolResult is what a tool answered.
type ToolResult struct {
	CallID, Content string
	IsError         bool
}

// ToolDefinition is a function that the model may call. Schema is the JSON
// Schema of its arguments, as MCP's inputSchema has it.
type ToolDefinition struct {
	Name, Description string
	Schema            json.RawMessage
}

// ToolMode is how tools are chosen, in the order of the wire's enumeration.
type ToolMode uint8

// The modes. The zero value leaves it to the model.
const (
	ToolsAuto ToolMode = iota + 1
	ToolsNone
	ToolsRequired
	ToolsNamed
)

// ToolChoice restricts tool calls; Name counts with ToolsNamed.
type ToolChoice struct {
	Mode ToolMode
	Name string
}

// ResponseFormat is the form of the answer: any JSON object, or JSON by a schema.
type ResponseFormat struct {
	JSONObject bool
	JSONSchema json.RawMessage
}

// Sampling is passed to the provider; what is not set is the provider's default.
type Sampling struct {
	Temperature, TopP                 Opt[float64]
	TopK                              Opt[int32]
	FrequencyPenalty, PresencePenalty Opt[float64]
	Seed                              Opt[int64]
	Stop                              []string
}

// Call is one request to one deployment.
type Call struct {
	Model      *Model
	Deployment Deployment
	Input      *Input
	// MaxOutputTokens is the output limit that the provider is given, above 0.
	MaxOutputTokens int64
	// Timeouts bound the call; a zero one is the Caller's own default.
	Timeouts Timeouts
}

// Timeouts bound one call of a provider.
type Timeouts struct {
	// Connect bounds DNS, TCP and TLS each.
	Connect time.Duration
	// FirstContent ends a call that brings no content, Idle one that brings
	// nothing more. Time that the receiver takes does not count.
	FirstContent, Idle time.Duration
	// Attempt ends a call however much it brings, the receiver's time included;
	// 0 for no bound but the caller's deadline.
	Attempt time.Duration
}

// Chunk is a piece of an answer. Of Text, Reasoning and Tool at most one is set;
// Usage and Finish come with or without one.
type Chunk struct {
	Text, Reasoning string
	Tool            *ToolCallDelta
	// Usage is what the provider has said so far of the whole call: the last one
	// counts. nil when it said nothing.
	Usage *Usage
	// Finish is set once, when the provider says why it stopped.
	Finish FinishReason
}

// Content tells whether the chunk holds a piece of the answer: from the first
// one on, no other model may speak.
func (c *Chunk) Content() bool { return c.Text != "" || c.Reasoning != "" || c.Tool != nil }

// ToolCallDelta is a piece of a tool call; ID and Name come with its first piece.
type ToolCallDelta struct {
	Index     int
	ID, Name  string
	Arguments string
}

// FinishReason is why a model stopped, in the order of the wire's enumeration.
type FinishReason uint8

// The reasons. The zero value means that it was cut.
const (
	FinishStop FinishReason = iota + 1
	FinishLength
	FinishToolCalls
	FinishContentFilter
)

// Caller calls providers. It is safe for concurrent use.
type Caller interface {
	// Stream makes one call and yields its pieces in order. It makes exactly one
	// attempt: retries and fallbacks are the router's. A stream that ends without
	// an error is whole: the provider said so by its own terminator and gave a
	// finish reason. Any other end yields one last pair with an *UpstreamError
	// and nothing after it. When the loop is left early or ctx ends, the request
	// is ended and its goroutines are gone before the iterator returns. No error
	// holds text of the prompt, the answer or a key.
	Stream(ctx context.Context, call *Call) iter.Seq2[Chunk, error]
}

// FailureKind says what went wrong with an upstream call; each has its own rule.
type FailureKind uint8

// The kinds.
const (
	// FailureAuth: the upstream refused its key. Not the caller's fault.
	FailureAuth FailureKind = iota + 1
	// FailureQuota: the account has no money or quota left.
	FailureQuota
	// FailureRateLimit: too many requests or tokens in a window.
	FailureRateLimit
	// FailureOverload: the provider is up but has no room, or answered 5xx.
	FailureOverload
	// FailureContextLength: the input is too long for this model.
	FailureContextLength
	// FailureContentPolicy: the provider will not answer this prompt.
	FailureContentPolicy
	// FailureBadRequest: the provider says that the request is malformed.
	FailureBadRequest
	// FailureNetwork: no connection, or it broke.
	FailureNetwork
	// FailureTimeout: no answer, or no next piece of it, in time.
	FailureTimeout
	// FailureProtocol: the answer is not what the dialect promises.
	FailureProtocol
	// FailureCancelled: the caller gave up.
	FailureCancelled
)

// String returns the kind as the wire, metrics and the ledger spell it.
func (k FailureKind) String() string {
	names := [...]string{
		"auth", "quota", "rate_limit", "overload", "context_length", "content_policy",
		"bad_request", "network", "timeout", "protocol", "cancelled",
	}
	if k < 1 || int(k) > len(names) {
		return fmt.Sprintf("failure(%d)", uint8(k))
	}
	return names[k-1]
}

// UpstreamError is how every upstream call fails. Its text names the upstream
// and what went wrong, never a prompt, an answer, a key or the provider's own
// words about them.
type UpstreamError struct {
	Kind     FailureKind
	Upstream string
	// Status is the HTTP status; 0 where there was none.
	Status int
	// Unsent is whether the request surely never left: no connection was made.
	Unsent bool
	// RetryAfter is how long the provider asked to be left alone; 0 when it did
	// not say.
	RetryAfter time.Duration
	// Err is the cause, for the log.
	Err error
}

// Error names the upstream, the kind, the status and the cause.
func (e *UpstreamError) Error() string {
	text := "upstream " + e.Upstream + ": " + e.Kind.String()
	if e.Status != 0 {
		text += fmt.Sprintf(" (HTTP %d)", e.Status)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *UpstreamError) Unwrap() error { return e.Err }
