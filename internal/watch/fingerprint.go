package watch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxEntries bounds how many entries of a folder count.
const maxEntries = 4096

// maxLinks bounds a chain of symbolic links, as the system does.
const maxLinks = 40

// fingerprint is equal as long as the paths lead to the same files, unchanged as
// far as their names, sizes, times, modes and inodes tell.
func fingerprint(paths []string) string {
	var b strings.Builder
	for _, p := range paths {
		real, err := filepath.EvalSymlinks(p)
		if err != nil {
			fmt.Fprintf(&b, "%s: %s\n", p, kind(err))
			continue
		}
		info, err := os.Stat(real)
		if err != nil {
			fmt.Fprintf(&b, "%s: %s\n", p, kind(err))
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", real, line(info))
		if !info.IsDir() {
			continue
		}
		entries, err := readDir(real)
		if err != nil {
			fmt.Fprintf(&b, "%s: %s\n", real, kind(err))
		}
		for _, name := range entries {
			// Stat, not Lstat: of a link, what it leads to counts.
			info, err := os.Stat(filepath.Join(real, name))
			if err != nil {
				fmt.Fprintf(&b, "%s: %s\n", name, kind(err))
				continue
			}
			fmt.Fprintf(&b, "%s %s\n", name, line(info))
		}
	}
	return b.String()
}

// line leaves a folder's own time out: it changes with files that were put into it
// and taken away again, such as an editor's.
func line(info os.FileInfo) string {
	if info.IsDir() {
		return fmt.Sprintf("%s %d", info.Mode(), inode(info))
	}
	return fmt.Sprintf("%s %d %d %d", info.Mode(), info.Size(), info.ModTime().UnixNano(), inode(info))
}

func kind(err error) string {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "missing"
	case errors.Is(err, os.ErrPermission):
		return "forbidden"
	default:
		return "unreadable"
	}
}

func readDir(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	names, err := f.Readdirnames(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	slices.Sort(names)
	return names, err
}

// folders are those in which a change of what the path leads to shows: the parent
// of every symbolic link on the way, of the end, and the end itself where it is a
// folder. Of what is missing, the nearest parent that is there.
func folders(path string) []string {
	var out []string
	add := func(dir string) {
		for dir != filepath.Dir(dir) {
			if info, err := os.Stat(dir); err == nil && info.IsDir() {
				break
			}
			dir = filepath.Dir(dir)
		}
		if !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	for range maxLinks {
		add(filepath.Dir(path))
		// A folder on the way may be a link as well, as a ConfigMap's ..data is.
		for dir := filepath.Dir(path); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if info, err := os.Lstat(dir); err == nil && info.Mode()&os.ModeSymlink != 0 {
				add(filepath.Dir(dir))
			}
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&os.ModeSymlink == 0 {
			if err == nil && info.IsDir() {
				add(path)
			}
			return out
		}
		to, err := os.Readlink(path)
		if err != nil {
			return out
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = filepath.Clean(to)
	}
	return out
}
