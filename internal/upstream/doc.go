// Package upstream speaks the providers' HTTP dialects - OpenAI chat
// completions, Anthropic Messages and Google Gemini - and turns each into one
// stream of router.Chunk and one kind of error, *router.UpstreamError.
//
// # Why not the providers' SDKs
//
// The contract of router.Caller is about ends: a stream that ends without an
// error is whole. The Go SDKs (openai-go, anthropic-sdk-go, genai) end a stream
// whose terminator never came as if all were well, retry by themselves, decode
// leniently, and quote bodies in their errors; they are also by far the slowest
// packages to compile that this module would have. What is needed of them is
// some two hundred lines of types. So the room is net/http and encoding/json
// with the events written down here, and a parser of server-sent events of its
// own: it is linear in its input however the bytes arrive, bounds a line and an
// event, and drops an event that was cut before its blank line. The general
// parsers scan an event again with every read, which a peer that sends single
// bytes can use.
//
// # When a stream is whole
//
// OpenAI: a finish_reason, then "data: [DONE]". Anthropic: a stop_reason, then
// message_stop. Gemini has no terminator: a finishReason, then a clean end of
// the body. Anything else - an early end, a reset, silence longer than
// the idle timeout, JSON that does not parse, an error event, an event of
// unknown type that may carry an answer, content after the finish - is an
// error. Finish is yielded with the last chunk, after the terminator, and never
// before: whoever has seen a finish reason has the whole answer. Usage is
// yielded when it is said, so that a call that is cut later still knows it.
//
// # What is asked for
//
// MaxOutputTokens goes out as max_completion_tokens to api.openai.com and to
// Azure, whose reasoning models refuse max_tokens, and as max_tokens to every
// other server of the OpenAI dialect, many of which know no other name. Azure is
// told by its host, or by an api-version in the base URL's query: the query is
// kept on every request, and the key goes into the api-key header.
// stream_options.include_usage goes to all but api.mistral.ai, which refuses it
// and reports usage unasked. A seed is a hint at every provider and is dropped
// where there is none; any other sampling parameter that a dialect lacks is
// refused before the call with router.FailureBadRequest, unless it says what is
// the default anyway. Anthropic has no JSON mode without a schema: there the
// system prompt asks for one JSON object. Gemini's thought signatures have no
// place in router.ToolCall; the documented stand-in is sent with calls from the
// history. Reasoning is yielded and never sent back.
//
// # Where connections go
//
// To the configured base URLs and nowhere else: no redirect is followed, no
// proxy is taken from the environment, and nothing of a request chooses a host,
// a path or a header. Every address is checked after DNS, at the dial. Link-local
// addresses (cloud metadata services live there), multicast, the unspecified
// address and well-known metadata addresses are refused always. Loopback,
// private and other addresses that are not of the public internet are refused
// too, unless the base URL's host is itself an address, or a name that only a
// private network resolves (localhost, a single label such as a container's,
// .internal, .local, .localhost, .home.arpa, .lan, .svc), or its upstream has
// AllowPrivate. Through an upstream's Proxy the check sees the proxy's address,
// and the proxy must do its own. A public name that suddenly resolves to 10.0.0.1 gets no
// key.
//
// Keys are read at every call, so that a rotated one works at once, and stand in
// no error. Of a provider's error body at most 64 KiB are read, and only its
// machine code is ever repeated.
package upstream
