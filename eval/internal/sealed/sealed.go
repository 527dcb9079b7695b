// Package sealed keeps outcomes out of reach of whoever chooses.
//
// A Vault takes values in while a replay reads its set, and gives them back
// only against a Commitment: the digest of every choice that was made, closed
// over all rows. Once a commitment is made its ledger takes no more choices,
// so nobody can look first and choose afterwards.
package sealed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
)

// ErrOpen means that a ledger or vault was used after it was closed.
var ErrOpen = errors.New("choices are closed")

// Vault holds one value a row. The zero Vault is empty and ready. It is not
// safe for concurrent use.
type Vault[T any] struct {
	rows   []T
	opened bool
}

// Put adds the value of the next row.
func (v *Vault[T]) Put(row T) error {
	if v.opened {
		return fmt.Errorf("put an outcome: %w", ErrOpen)
	}
	v.rows = append(v.rows, row)
	return nil
}

// Len is the number of rows.
func (v *Vault[T]) Len() int { return len(v.rows) }

// Open gives the values, against a commitment that covers every row.
func (v *Vault[T]) Open(c Commitment) ([]T, error) {
	if c.digests == nil {
		return nil, errors.New("open outcomes: no choices were committed")
	}
	if c.rows != len(v.rows) {
		return nil, fmt.Errorf("open outcomes: %d rows are committed, %d are sealed", c.rows, len(v.rows))
	}
	v.opened = true
	return v.rows, nil
}

// Ledger hashes the choices of several strategies, row by row. Make one by
// NewLedger. It is not safe for concurrent use.
type Ledger struct {
	names  []string
	hashes []hash.Hash
	buf    []byte
	rows   int
	closed bool
}

// NewLedger makes a ledger of the named strategies.
func NewLedger(names ...string) *Ledger {
	l := &Ledger{names: names}
	for range names {
		l.hashes = append(l.hashes, sha256.New())
	}
	return l
}

// Add records what every strategy chose on a row, in the order of the names.
func (l *Ledger) Add(id string, choices ...string) error {
	if l.closed {
		return fmt.Errorf("record a choice: %w", ErrOpen)
	}
	if len(choices) != len(l.hashes) {
		return fmt.Errorf("record a choice: %d strategies chose, want %d", len(choices), len(l.hashes))
	}
	for i, c := range choices {
		l.buf = append(l.buf[:0], id...)
		l.buf = append(append(append(l.buf, 0), c...), '\n')
		l.hashes[i].Write(l.buf) //nolint:errcheck // a hash never fails
	}
	l.rows++
	return nil
}

// Commit closes the ledger.
func (l *Ledger) Commit() Commitment {
	l.closed = true
	c := Commitment{rows: l.rows, digests: map[string]string{}}
	for i, n := range l.names {
		c.digests[n] = "sha256:" + hex.EncodeToString(l.hashes[i].Sum(nil))
	}
	return c
}

// Commitment binds the choices of a replay. Only Ledger.Commit makes one.
type Commitment struct {
	rows    int
	digests map[string]string
}

// Digests are SHA-256 over id, NUL, choice and line feed of every row, by
// strategy. Do not change the map.
func (c Commitment) Digests() map[string]string { return c.digests }
