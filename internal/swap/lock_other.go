//go:build !unix

package swap

import "os"

// lockFile opens the file; this system is not asked to keep others out.
func lockFile(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
}
