package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/weirhq/weir/classifier"
)

// promptRecord is what score reads of a line; other fields are left alone.
type promptRecord struct {
	ID       string          `json:"id"`
	Prompt   *string         `json:"prompt"`
	Messages []messageRecord `json:"messages"`
}

type messageRecord struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// text is the text that is scored.
func (r *promptRecord) text() (string, error) {
	if (r.Prompt == nil) == (r.Messages == nil) {
		return "", errors.New("give either prompt or messages")
	}
	if r.Prompt != nil {
		return *r.Prompt, nil
	}
	roles := map[string]classifier.Role{"system": classifier.System, "user": classifier.User, "assistant": classifier.Assistant, "tool": classifier.Tool}
	messages := make([]classifier.Message, len(r.Messages))
	for i, m := range r.Messages {
		role, ok := roles[m.Role]
		if !ok {
			return "", fmt.Errorf("messages[%d].role %q is unknown: use system, user, assistant or tool", i, m.Role)
		}
		messages[i] = classifier.Message{Role: role, Text: m.Content}
	}
	return classifier.Render(messages), nil
}

// lineReader reads a JSONL file line by line, parting on \n only: texts hold
// other Unicode line breaks. A name that ends in .zst is decompressed, "-" is
// standard input.
type lineReader struct {
	r      *bufio.Reader
	closer func() error
	line   int
	size   int64 // bytes of the file; 0 when unknown
	read   int64 // bytes read of the lines so far
	half   bool  // the last line had no line break
}

// maxLine bounds one line, so that a file without line breaks cannot fill the memory.
const maxLine = 64 << 20

func openLines(name string, stdin io.Reader) (*lineReader, error) {
	if name == "-" {
		return &lineReader{r: bufio.NewReaderSize(stdin, 1<<16), closer: func() error { return nil }}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	out := &lineReader{r: bufio.NewReaderSize(f, 1<<16), closer: f.Close}
	if !strings.HasSuffix(name, ".zst") {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			out.size = info.Size()
		}
		return out, nil
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", name, err), f.Close())
	}
	out.r = bufio.NewReaderSize(z, 1<<16)
	out.closer = func() error { z.Close(); return f.Close() }
	return out, nil
}

// next returns the next line that is not blank, or io.EOF.
func (l *lineReader) next() ([]byte, error) {
	for {
		var line []byte
		for {
			part, err := l.r.ReadSlice('\n')
			line = append(line, part...)
			l.read += int64(len(part))
			l.half = err != nil
			if err == nil || (errors.Is(err, io.EOF) && len(line) > 0) {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return nil, err
			}
			if len(line) > maxLine {
				return nil, fmt.Errorf("line %d is longer than %d bytes", l.line+1, maxLine)
			}
		}
		l.line++
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) > 0 {
			return line, nil
		}
	}
}

// nextRecord returns the next record, or io.EOF.
func (l *lineReader) nextRecord() (promptRecord, error) {
	line, err := l.next()
	if err != nil {
		return promptRecord{}, err
	}
	var r promptRecord
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("line %d is not a JSON object of the record format: %w", l.line, err)
	}
	if r.ID == "" {
		return r, fmt.Errorf("line %d: id is missing or empty: give every prompt one", l.line)
	}
	return r, nil
}
