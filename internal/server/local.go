package server

import (
	"errors"

	weirv1 "github.com/weirhq/weir/proto/weir/v1"
	"github.com/weirhq/weir/router"
)

// NewRouterService is the service without a listener, for a caller in the same
// process: the same checks, decisions and answers. Its methods return plain
// errors, whose text names field, value and remedy, in place of statuses.
func NewRouterService(r Router, store *router.Store) weirv1.RouterServiceServer {
	return &routerService{router: r, store: store, completeTimeout: DefaultCompleteTimeout}
}

// Invalid tells whether an error of that service is the request's fault: a
// field out of range or in conflict with another.
func Invalid(err error) bool {
	var invalid *invalidError
	return errors.As(err, &invalid)
}
