package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// maxLine bounds one line, so that a file without line breaks cannot fill the
// memory.
const maxLine = 64 << 20

// ReadFile reads a set in the record format: one Case a line, parted on \n
// only, because texts hold other Unicode line breaks. A name that ends in .zst
// is decompressed. Blank lines are passed over; fields that Case lacks are
// refused. Every case is validated. The first fault ends the sequence with an
// error that names file and line and never quotes the text.
func ReadFile(name string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		f, err := os.Open(name) //nolint:gosec // a file that the operator named
		if err != nil {
			yield(Case{}, fmt.Errorf("read set: %w", err))
			return
		}
		defer f.Close() //nolint:errcheck // it was only read
		var r io.Reader = f
		if strings.HasSuffix(name, ".zst") {
			z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
			if err != nil {
				yield(Case{}, fmt.Errorf("read set %s: %w", name, err))
				return
			}
			defer z.Close()
			r = z
		}
		Read(r, name)(yield)
	}
}

// Read is ReadFile on an open stream that is not compressed; name is what
// errors call it. It can be ranged over once.
func Read(r io.Reader, name string) iter.Seq2[Case, error] {
	return func(yield func(Case, error) bool) {
		err := eachLine(r, func(line []byte, number int) error {
			c, err := decodeCase(line)
			if err != nil {
				return fmt.Errorf("%s line %d%w", name, number, err)
			}
			if !yield(c, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStop) {
			yield(Case{}, fmt.Errorf("read set: %w", err))
		}
	}
}

// errStop ends a walk that its consumer does not want to go on with.
var errStop = errors.New("stop")

// eachLine calls f with every line that is not blank, and its number from 1.
func eachLine(r io.Reader, f func(line []byte, number int) error) error {
	buf := bufio.NewReaderSize(r, 1<<16)
	var long []byte
	for number := 1; ; number++ {
		line, err := buf.ReadSlice('\n')
		for long = long[:0]; errors.Is(err, bufio.ErrBufferFull); line, err = buf.ReadSlice('\n') {
			if long = append(long, line...); len(long) > maxLine {
				return fmt.Errorf("line %d is longer than %d bytes", number, maxLine)
			}
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if line := bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) > 0 {
			if err := f(line, number); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
	}
}

// decodeCase reads one line. Its errors begin with punctuation that follows the
// line's number.
func decodeCase(line []byte) (Case, error) {
	// A null is a value that is not there: encoding/json would make a 0 of it.
	var l struct {
		Case
		Outcomes    map[string]*float64 `json:"outcomes"`
		OutputChars map[string]*int64   `json:"output_chars"`
		CostUSD     map[string]*float64 `json:"cost_usd"`
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	err := dec.Decode(&l)
	c := l.Case
	c.Outcomes, c.OutputChars, c.CostUSD = present(l.Outcomes), present(l.OutputChars), present(l.CostUSD)
	if err != nil {
		return c, fmt.Errorf(" is not a JSON object of the record format: %w", err)
	}
	if dec.InputOffset() != int64(len(bytes.TrimRight(line, " \t"))) {
		return c, errors.New(" holds more than one JSON object: part them by line feeds")
	}
	if err := c.Validate(); err != nil {
		return c, fmt.Errorf(" (id %q): %s", c.ID, strings.ReplaceAll(err.Error(), "\n", "; ")) //nolint:errorlint // joined errors would break the line
	}
	return c, nil
}

// present leaves out what is null.
func present[V any](m map[string]*V) map[string]V {
	if m == nil {
		return nil
	}
	out := make(map[string]V, len(m))
	for k, v := range m {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}

// Write writes cases in the record format, one a line, and returns how many.
// It stops at the sequence's error.
func Write(w io.Writer, cases iter.Seq2[Case, error]) (int, error) {
	buf := bufio.NewWriterSize(w, 1<<16)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	n := 0
	for c, err := range cases {
		if err != nil {
			return n, errors.Join(err, buf.Flush())
		}
		if err := c.Validate(); err != nil {
			return n, errors.Join(fmt.Errorf("write set: case %d (id %q): %w", n+1, c.ID, err), buf.Flush())
		}
		if err := enc.Encode(&c); err != nil {
			return n, fmt.Errorf("write set: %w", err)
		}
		n++
	}
	if err := buf.Flush(); err != nil {
		return n, fmt.Errorf("write set: %w", err)
	}
	return n, nil
}
