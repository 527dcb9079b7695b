// Package watch tells when files or folders have changed.
//
// A change is told once it has come to rest: an editor that writes in pieces, a
// copy over a folder and a swapped symbolic link are each one change. What counts
// is what the paths lead to, by a fingerprint of resolved name, size, time, mode
// and inode; the system's notices only say when to look. Where there are none, or
// they were lost, a slow poll finds the change all the same. A path may be
// missing, lose its permissions, be renamed over or come back as another kind of
// file: each is a change, and none ends the watcher.
package watch
