package server

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// The lengths of a bearer token: too short is guessable, too long is no token.
const (
	minTokenBytes = 16
	maxTokenBytes = 512
)

// tokenFile keeps the hashes of the tokens in a file, never the tokens. It is
// safe for concurrent use.
type tokenFile struct {
	name string
	log  *slog.Logger

	mu      sync.Mutex
	checked time.Time
	stamps  []stamp
	hashes  [][sha256.Size]byte
}

func openTokenFile(name string, log *slog.Logger) (*tokenFile, error) {
	f := &tokenFile{name: name, log: log, checked: time.Now()}
	var err error
	if f.stamps, err = stampOf(name); err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	if f.hashes, err = readTokens(name); err != nil {
		return nil, err
	}
	if len(f.hashes) == 0 {
		return nil, fmt.Errorf("token file %q holds no token: write one a line, such as the output of: openssl rand -hex 32", name)
	}
	return f, nil
}

// admits tells whether the token is one of the file's. It compares with all of
// them, by hash, so that its time tells nothing of any token.
func (f *tokenFile) admits(token string, now time.Time) bool {
	if len(token) > maxTokenBytes {
		return false
	}
	sum := sha256.Sum256([]byte(token))
	match := 0
	for _, h := range f.fresh(now) {
		match |= subtle.ConstantTimeCompare(sum[:], h[:])
	}
	return match == 1
}

// fresh returns the hashes of the newest version of the file that could be read.
// An emptied file admits nobody; one that is gone or faulty leaves the last ones.
func (f *tokenFile) fresh(now time.Time) [][sha256.Size]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now.Sub(f.checked) < recheck {
		return f.hashes
	}
	f.checked = now
	stamps, err := stampOf(f.name)
	if err == nil && equalStamps(stamps, f.stamps) {
		return f.hashes
	}
	var next [][sha256.Size]byte
	if err == nil {
		next, err = readTokens(f.name)
	}
	if err != nil {
		f.log.Error("token file was not read again: the last good tokens count", "cause", err)
		return f.hashes
	}
	f.hashes, f.stamps = next, stamps
	f.log.Info("token file was read again", "tokens", len(next))
	return f.hashes
}

// readTokens never names a token in an error, only its line.
func readTokens(name string) ([][sha256.Size]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	var out [][sha256.Size]byte
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		token := strings.TrimSpace(lines.Text())
		if token == "" || strings.HasPrefix(token, "#") {
			continue
		}
		if len(token) < minTokenBytes || len(token) > maxTokenBytes || strings.ContainsAny(token, " \t") {
			return nil, fmt.Errorf("token file %q, line %d: the token has %d bytes or a space: want %d to %d bytes without spaces", name, n, len(token), minTokenBytes, maxTokenBytes)
		}
		out = append(out, sha256.Sum256([]byte(token)))
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("token file %q: %w", name, err)
	}
	return out, nil
}
