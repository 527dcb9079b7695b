package upstream

import (
	"bytes"
	"errors"
	"io"
)

// maxEventBytes bounds a line of a stream, and an event's data.
const maxEventBytes = 1 << 20

var (
	errEventTooLong  = errors.New("a line or event of the stream is longer than 1 MiB")
	errStreamTooLong = errors.New("the stream is longer than allowed")
)

// event is one server-sent event.
type event struct {
	name string // "" where none was given
	data []byte
}

// reader parses server-sent events as the WHATWG's HTML standard says: lines end
// with LF, CR or CRLF, a byte order mark at the start is dropped, several data
// lines are joined by LF, comments and unknown fields count for nothing, and an
// event without its blank line is none. Every byte is looked at once.
type reader struct {
	src  io.Reader
	left int64 // bytes that may still come

	buf        []byte // read and not yet parsed: buf[at:]
	at         int
	line       []byte // of the line so far, where it began in an earlier buffer
	afterCR    bool   // a LF now belongs to the CR before it
	firstLine  bool
	name       []byte
	data       []byte
	hasData    bool
	bufStorage []byte
}

func newReader(src io.Reader, limit int64) *reader {
	return &reader{src: src, left: limit, firstLine: true, bufStorage: make([]byte, 16<<10)}
}

// next returns the next event with data; it is valid until the call after. At
// the end it returns the source's error, io.EOF at a clean end.
func (r *reader) next() (event, error) {
	r.name, r.data, r.hasData = r.name[:0], r.data[:0], false
	for {
		line, err := r.readLine()
		if err != nil {
			return event{}, err
		}
		if len(line) > 0 {
			if err := r.field(line); err != nil {
				return event{}, err
			}
			continue
		}
		if r.hasData {
			return event{name: string(r.name), data: r.data}, nil
		}
		r.name = r.name[:0]
	}
}

// field takes one line that is not blank.
func (r *reader) field(line []byte) error {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "data":
		if r.hasData {
			r.data = append(r.data, '\n')
		}
		r.data, r.hasData = append(r.data, value...), true
		if len(r.data) > maxEventBytes {
			return errEventTooLong
		}
	case "event":
		r.name = append(r.name[:0], value...)
	}
	return nil
}

// readLine returns the next line without its end; it is valid until the next
// call.
func (r *reader) readLine() ([]byte, error) {
	r.line = r.line[:0]
	for {
		if r.at == len(r.buf) {
			if err := r.fill(); err != nil {
				return nil, err
			}
		}
		if r.afterCR {
			r.afterCR = false
			if r.buf[r.at] == '\n' {
				r.at++
				continue
			}
		}
		rest := r.buf[r.at:]
		n := bytes.IndexAny(rest, "\r\n")
		if n < 0 {
			r.line, r.at = append(r.line, rest...), len(r.buf)
			if len(r.line) > maxEventBytes {
				return nil, errEventTooLong
			}
			continue
		}
		r.afterCR = rest[n] == '\r'
		r.at += n + 1
		line := rest[:n]
		if len(r.line) > 0 {
			r.line = append(r.line, line...)
			line = r.line
		}
		if len(line) > maxEventBytes {
			return nil, errEventTooLong
		}
		if r.firstLine {
			r.firstLine, line = false, bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		return line, nil
	}
}

// fill reads at least one byte.
func (r *reader) fill() error {
	for range 100 {
		n, err := r.src.Read(r.bufStorage)
		if r.left -= int64(n); r.left < 0 {
			return errStreamTooLong
		}
		if n > 0 {
			// An error that came with bytes comes again with the next read.
			r.buf, r.at = r.bufStorage[:n], 0
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}
