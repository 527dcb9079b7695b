package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/netutil"
)

const unixPrefix = "unix:"

// listeners are the open ones; admin and metrics are nil when they are off.
type listeners struct {
	callers, admin, metrics net.Listener
}

func (l *listeners) close() {
	for _, x := range []net.Listener{l.callers, l.admin, l.metrics} {
		if x != nil {
			// It may be closed already: by the server that it was given to.
			_ = x.Close()
		}
	}
}

func (l *listeners) addrs() Addrs {
	a := Addrs{Listen: l.callers.Addr()}
	if l.admin != nil {
		a.Admin = l.admin.Addr()
	}
	if l.metrics != nil {
		a.Metrics = l.metrics.Addr()
	}
	return a
}

// listen opens every listener, or none.
func (s *Server) listen() (*listeners, error) {
	ls := &listeners{}
	var errs []error
	open := func(name, addr string) net.Listener {
		if addr == Off {
			return nil
		}
		l, err := openListener(addr)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s %q: %w", name, addr, err))
			return nil
		}
		return l
	}
	ls.callers = open("listen", s.cfg.Listen)
	ls.admin = open("admin listen", s.cfg.AdminListen)
	ls.metrics = open("metrics listen", s.cfg.MetricsListen)
	if err := errors.Join(errs...); err != nil {
		ls.close()
		return nil, fmt.Errorf("server: %w", err)
	}
	ls.callers = netutil.LimitListener(ls.callers, s.cfg.MaxConnections)
	return ls, nil
}

func openListener(addr string) (net.Listener, error) {
	path, ok := strings.CutPrefix(addr, unixPrefix)
	if !ok {
		return (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	// The mode is set before bind, so that the socket is never open to others.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes the socket that a killed server left behind; never
// another kind of file, and never a socket that somebody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s exists and is no socket: remove it or choose another path", path)
	}
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(context.Background(), "unix", path)
	if err == nil {
		return errors.Join(fmt.Errorf("%s is in use by another process: stop it or choose another path", path), conn.Close())
	}
	return os.Remove(path)
}

// tlsConfig is nil without TLS.
func (s *Server) tlsConfig() *tls.Config {
	if s.tls == nil {
		return nil
	}
	return s.tls.config()
}
