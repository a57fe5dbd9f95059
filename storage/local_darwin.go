package storage

import "syscall"

// isLocal reports whether dir is on a file system that only this machine uses.
func isLocal(dir string) bool {
	const local = 0x1000 // MNT_LOCAL of mount(2)
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && st.Flags&local != 0
}
