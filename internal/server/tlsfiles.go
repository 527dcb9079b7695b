package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often a file is looked at for a change, at most.
const recheck = time.Second

// stamp tells two versions of a file apart without reading it.
type stamp struct {
	modified time.Time
	size     int64
}

func stampOf(files ...string) ([]stamp, error) {
	out := make([]stamp, 0, len(files))
	for _, f := range files {
		if f == "" {
			continue
		}
		info, err := os.Stat(f)
		if err != nil {
			return nil, err
		}
		out = append(out, stamp{info.ModTime(), info.Size()})
	}
	return out, nil
}

// tlsFiles keeps the TLS config of files that may be rotated. It is safe for
// concurrent use.
type tlsFiles struct {
	names TLS
	log   *slog.Logger

	mu      sync.Mutex
	checked time.Time
	stamps  []stamp
	current *tls.Config
}

func openTLSFiles(names TLS, log *slog.Logger) (*tlsFiles, error) {
	f := &tlsFiles{names: names, log: log}
	stamps, err := stampOf(names.CertFile, names.KeyFile, names.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if f.current, err = loadTLS(names); err != nil {
		return nil, err
	}
	f.stamps, f.checked = stamps, time.Now()
	return f, nil
}

// config asks for the files' state at every handshake.
func (f *tlsFiles) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.fresh(time.Now()), nil },
	}
}

// fresh returns the config of the newest good version of the files.
func (f *tlsFiles) fresh(now time.Time) *tls.Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.checked) < recheck {
		return f.current
	}
	f.checked = now
	stamps, err := stampOf(f.names.CertFile, f.names.KeyFile, f.names.ClientCAFile)
	if err == nil && equalStamps(stamps, f.stamps) {
		return f.current
	}
	var next *tls.Config
	if err == nil {
		next, err = loadTLS(f.names)
	}
	if err != nil {
		f.log.Error("tls files were not read again: the last good ones serve", "cause", err)
		return f.current
	}
	f.current, f.stamps = next, stamps
	f.log.Info("tls files were read again")
	return f.current
}

func equalStamps(a, b []stamp) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].size != b[i].size || !a[i].modified.Equal(b[i].modified) {
			return false
		}
	}
	return true
}

func loadTLS(names TLS) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(names.CertFile, names.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("tls: cert file %q, key file %q: %w", names.CertFile, names.KeyFile, err)
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, Certificates: []tls.Certificate{cert},
		// A resumed session would not show its certificate to a new authority.
		SessionTicketsDisabled: true,
	}
	if names.ClientCAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(names.ClientCAFile)
	if err != nil {
		return nil, fmt.Errorf("tls: client CA file: %w", err)
	}
	c.ClientCAs = x509.NewCertPool()
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls: client CA file %q: %w", names.ClientCAFile, errors.New("it holds no certificate: give the PEM of the authority that signs the callers' certificates"))
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}
