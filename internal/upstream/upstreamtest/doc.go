// Package upstreamtest is a fake provider: an HTTP server that speaks the three
// dialects, answers by script, fails as it is told, and records what it was
// asked. It serves tests in process, and demonstrations of faults on a real port.
//
//	p, err := upstreamtest.Start("127.0.0.1:0")
//	defer p.Close()
//	p.Script(func(r upstreamtest.Request) upstreamtest.Answer {
//		if r.Number == 1 {
//			return upstreamtest.Answer{Fault: upstreamtest.Fault{Kind: upstreamtest.Status, Status: 429, RetryAfter: "2"}}
//		}
//		return upstreamtest.Answer{Text: []string{"Hel", "lo"}, Usage: &router.Usage{Input: 7, Output: 2}}
//	})
//	u := p.Upstream("openai") // an upstream whose base URL leads here
//
// One address serves all dialects: the path says which is spoken. An Answer is
// in terms of no dialect; Events renders it in one, which is also how the tests
// of the parsers get their streams. Faults strike at a byte of the rendered
// stream, so that a campaign can try every offset: see Fault.
package upstreamtest
