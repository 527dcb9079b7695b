//go:build unix

package watch

import (
	"os"
	"syscall"
)

// inode tells two files of one name apart that were renamed over each other.
func inode(info os.FileInfo) uint64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(s.Ino) //nolint:unconvert // it is narrower on some systems
	}
	return 0
}
