package main

import (
	"context"

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
