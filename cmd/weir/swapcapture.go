package main

import (
	"context"
	"iter"

	"github.com/weirhq/weir/classifier"
	"github.com/weirhq/weir/internal/server"
	"github.com/weirhq/weir/router"
)

// capturingRouter keeps the prompts that it passes on.
type capturingRouter struct {
	server.Router
	to *captured
}

// capture wraps the router where keeping prompts was opted in.
func (s *swapping) capture(r server.Router) server.Router {
	if s.captured == nil {
		return r
	}
	return &capturingRouter{r, s.captured}
}

// Route implements server.Router.
func (c *capturingRouter) Route(ctx context.Context, req *router.Request) (router.Record, error) {
	rec, err := c.Router.Route(ctx, req)
	if err == nil {
		c.to.add(classifier.Render(req.Messages))
	}
	return rec, err
}

// capturingCompleter keeps the prompts that were decided.
type capturingCompleter struct {
	server.Completer
	to *captured
}

// captureCompleted wraps the completer where keeping prompts was opted in.
func (s *swapping) captureCompleted(c server.Completer) server.Completer {
	if s.captured == nil {
		return c
	}
	return &capturingCompleter{c, s.captured}
}

// Complete implements server.Completer.
func (c *capturingCompleter) Complete(ctx context.Context, req *router.CompleteRequest) iter.Seq2[router.Event, error] {
	return func(yield func(router.Event, error) bool) {
		for event, err := range c.Completer.Complete(ctx, req) {
			if _, ok := event.(*router.Decided); ok {
				c.to.add(classifier.Render(req.Request.Messages))
			}
			if !yield(event, err) {
				return
			}
		}
	}
}
