package server

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
)

func (c Config) withDefaults() Config {
	c.Listen = cmp.Or(c.Listen, DefaultListen)
	c.AdminListen = cmp.Or(c.AdminListen, DefaultAdminListen)
	c.MetricsListen = cmp.Or(c.MetricsListen, DefaultMetricsListen)
	c.MaxMessageBytes = cmp.Or(c.MaxMessageBytes, DefaultMessageBytes)
	c.MaxStreams = cmp.Or(c.MaxStreams, DefaultStreams)
	c.MaxConnections = cmp.Or(c.MaxConnections, DefaultConnections)
	c.RequestTimeout = cmp.Or(c.RequestTimeout, DefaultTimeout)
	c.CompleteTimeout = cmp.Or(c.CompleteTimeout, DefaultCompleteTimeout)
	c.DrainDelay = cmp.Or(c.DrainDelay, DefaultDrainDelay)
	c.ShutdownGrace = cmp.Or(c.ShutdownGrace, DefaultGrace)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// check joins every fault of the config and reads the files that it names.
func (s *Server) check() error {
	c := &s.cfg
	faults := []error{checkNumbers(c), checkTLSNames(c.TLS)}
	if c.Router == nil || c.Store == nil {
		faults = append(faults, errors.New("router and store are both needed"))
	}
	if c.Listen == Off {
		faults = append(faults, errors.New("listen is off: without it there is nothing to serve"))
	} else {
		faults = append(faults, checkListen(c))
	}
	if c.AdminListen != Off {
		local, err := isLocal(c.AdminListen)
		if err == nil && !local {
			err = errors.New("the admin service has no authentication: use a loopback address such as " + DefaultAdminListen + ", or unix:PATH")
		}
		faults = append(faults, addrFault("admin listen", c.AdminListen, err))
	}
	if c.MetricsListen != Off {
		_, err := isLocal(c.MetricsListen)
		faults = append(faults, addrFault("metrics listen", c.MetricsListen, err))
	}
	var err error
	if c.TLS.CertFile != "" && c.TLS.KeyFile != "" {
		s.tls, err = openTLSFiles(c.TLS, c.Logger)
		faults = append(faults, err)
	}
	if c.TokenFile != "" {
		s.tokens, err = openTokenFile(c.TokenFile, c.Logger)
		faults = append(faults, err)
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("server config: %w", err)
	}
	return nil
}

func checkNumbers(c *Config) error {
	var faults []error
	if c.MaxMessageBytes < 0 || c.MaxConnections < 0 {
		faults = append(faults, fmt.Errorf("max message bytes is %d and max connections %d: want positive numbers, or 0 for the defaults", c.MaxMessageBytes, c.MaxConnections))
	}
	if min(c.RequestTimeout, c.CompleteTimeout, c.ShutdownGrace) < 0 {
		faults = append(faults, fmt.Errorf("request timeout is %s, complete timeout %s and shutdown grace %s: want positive durations, or 0 for the defaults", c.RequestTimeout, c.CompleteTimeout, c.ShutdownGrace))
	}
	return errors.Join(faults...)
}

func checkTLSNames(t TLS) error {
	switch {
	case (t.CertFile == "") != (t.KeyFile == ""):
		return fmt.Errorf("tls has cert file %q and key file %q: give both or neither", t.CertFile, t.KeyFile)
	case t.ClientCAFile != "" && t.CertFile == "":
		return fmt.Errorf("tls has client CA file %q without a certificate of the server: give cert and key file too", t.ClientCAFile)
	default:
		return nil
	}
}

func checkListen(c *Config) error {
	local, err := isLocal(c.Listen)
	switch {
	case err != nil || local:
	case c.TLS.CertFile == "":
		err = errors.New("it is not loopback, so it needs TLS: give cert and key file, and a client CA or a token file; or listen on " + DefaultListen)
	case c.TLS.ClientCAFile == "" && c.TokenFile == "":
		err = errors.New("it is not loopback, so callers must prove who they are: give a client CA file or a token file; or listen on " + DefaultListen)
	}
	return addrFault("listen", c.Listen, err)
}

func addrFault(name, addr string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %q: %w", name, addr, err)
}

// isLocal tells whether only this machine reaches the address. A host name
// other than localhost may mean anything, so it is not.
func isLocal(addr string) (bool, error) {
	if path, ok := strings.CutPrefix(addr, unixPrefix); ok {
		if path == "" {
			return false, errors.New("the socket's path is empty: write unix:PATH")
		}
		return true, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "" {
		return false, errors.New("it is no address: write HOST:PORT or unix:PATH")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback()), nil
}
