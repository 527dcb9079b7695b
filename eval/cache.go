package eval

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/weirhq/weir/classifier"
)

// scoreCache is a file of fixed records: a digest of the prompt, its scores, a
// checksum. Records are only ever appended, so that a run which was killed
// loses what it had not flushed and nothing else. A record that is damaged or
// half written counts as absent. Memory holds 20 bytes and a map entry a
// record, never the scores.
type scoreCache struct {
	file *os.File
	hits atomic.Int64

	mu      sync.Mutex
	index   map[[16]byte]uint32
	pending []byte
	records uint32 // on disk and pending
	written uint32
}

// cacheVersion changes with the layout of records or the meaning of scores.
const cacheVersion = "weir scores 1\n"

const (
	cacheFloats = 16
	laneBytes   = 16
	headerBytes = len(cacheVersion) + sha256.Size
	recordBytes = sha256.Size + 8*cacheFloats + 2*8 + 1 + laneBytes + 4
	flushAt     = 256 * recordBytes
)

func openCache(dir, digest string) (_ *scoreCache, err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("score cache: %w", err)
	}
	sum := sha256.Sum256([]byte(digest))
	name := filepath.Join(dir, "scores-"+hex.EncodeToString(sum[:8])+".bin")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("score cache: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	c := &scoreCache{file: f, index: map[[16]byte]uint32{}}
	header := append([]byte(cacheVersion), sum[:]...)
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("score cache: %w", err)
	}
	if info.Size() == 0 {
		if _, err := f.Write(header); err != nil {
			return nil, fmt.Errorf("score cache: %w", err)
		}
		return c, nil
	}
	got := make([]byte, headerBytes)
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, header) {
		return nil, fmt.Errorf("score cache %s is of another version or classifier: remove it", name)
	}
	whole := (info.Size() - int64(headerBytes)) / int64(recordBytes)
	if err := f.Truncate(int64(headerBytes) + whole*int64(recordBytes)); err != nil {
		return nil, fmt.Errorf("score cache: cut off a half record: %w", err)
	}
	if err := c.load(uint32(whole)); err != nil {
		return nil, fmt.Errorf("score cache %s: %w", name, err)
	}
	return c, nil
}

// load reads the index of n records.
func (c *scoreCache) load(n uint32) error {
	r := io.NewSectionReader(c.file, int64(headerBytes), int64(n)*int64(recordBytes))
	buf := make([]byte, 4096*recordBytes)
	for c.records < n {
		part := buf[:min(len(buf), int(n-c.records)*recordBytes)]
		if _, err := io.ReadFull(r, part); err != nil {
			return err
		}
		for ; len(part) > 0; part = part[recordBytes:] {
			if record := part[:recordBytes]; intact(record) {
				c.index[[16]byte(record[:16])] = c.records
			}
			c.records++
		}
	}
	c.written = c.records
	return nil
}

func intact(record []byte) bool {
	body := record[:recordBytes-4]
	return crc32.ChecksumIEEE(body) == binary.LittleEndian.Uint32(record[recordBytes-4:])
}

func (c *scoreCache) get(key [sha256.Size]byte) (classifier.Scores, bool, error) {
	record := make([]byte, recordBytes)
	c.mu.Lock()
	at, ok := c.index[[16]byte(key[:16])]
	onDisk := at < c.written
	if ok && !onDisk {
		copy(record, c.pending[int(at-c.written)*recordBytes:])
	}
	c.mu.Unlock()
	if !ok {
		return classifier.Scores{}, false, nil
	}
	if onDisk {
		if _, err := c.file.ReadAt(record, int64(headerBytes)+int64(at)*int64(recordBytes)); err != nil {
			return classifier.Scores{}, false, fmt.Errorf("score cache: %w", err)
		}
	}
	if !intact(record) || [sha256.Size]byte(record[:sha256.Size]) != key {
		return classifier.Scores{}, false, nil
	}
	c.hits.Add(1)
	return decodeScores(record[sha256.Size:]), true, nil
}

func (c *scoreCache) put(key [sha256.Size]byte, s *classifier.Scores) error {
	if len(s.Lane) > laneBytes-1 {
		return nil // no lane is that long; such scores are computed again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.index[[16]byte(key[:16])]; ok {
		return nil
	}
	start := len(c.pending)
	c.pending = append(c.pending, key[:]...)
	c.pending = appendScores(c.pending, s)
	c.pending = binary.LittleEndian.AppendUint32(c.pending, crc32.ChecksumIEEE(c.pending[start:]))
	c.index[[16]byte(key[:16])] = c.records
	c.records++
	if len(c.pending) >= flushAt {
		return c.flush()
	}
	return nil
}

// flush appends whole records. The caller holds mu.
func (c *scoreCache) flush() error {
	if _, err := c.file.Write(c.pending); err != nil {
		return fmt.Errorf("score cache: %w", err)
	}
	c.pending, c.written = c.pending[:0], c.records
	return nil
}

func (c *scoreCache) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.flush(), c.file.Close())
}

func appendScores(b []byte, s *classifier.Scores) []byte {
	floats := make([]float64, 0, cacheFloats)
	floats = append(floats, s.QEfficient.Value, s.QEfficient.Low, s.QEfficient.High, s.QHigh.Value, s.QHigh.Low, s.QHigh.High)
	floats = append(append(floats, s.Domains[:]...), s.OutputTokens, s.OutputTokensP90)
	for _, f := range floats {
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(f))
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(s.InputTokens))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.TruncatedTokens))
	var flags byte
	if s.TokensEstimated {
		flags |= 1
	}
	if s.OutOfDistribution {
		flags |= 2
	}
	var lane [laneBytes]byte
	lane[0] = byte(copy(lane[1:], s.Lane))
	return append(append(b, flags), lane[:]...)
}

func decodeScores(b []byte) classifier.Scores {
	next := func() uint64 { v := binary.LittleEndian.Uint64(b); b = b[8:]; return v }
	float := func() float64 { return math.Float64frombits(next()) }
	estimate := func() classifier.Estimate { return classifier.Estimate{Value: float(), Low: float(), High: float()} }
	var s classifier.Scores
	s.QEfficient, s.QHigh = estimate(), estimate()
	for i := range s.Domains {
		s.Domains[i] = float()
	}
	s.OutputTokens, s.OutputTokensP90 = float(), float()
	s.InputTokens, s.TruncatedTokens = int(next()), int(next())
	s.TokensEstimated, s.OutOfDistribution = b[0]&1 != 0, b[0]&2 != 0
	s.Lane = string(b[2 : 2+min(int(b[1]), laneBytes-1)])
	return s
}
