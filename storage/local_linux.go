package storage

import "syscall"

// isLocal reports whether dir is on a file system that only this machine uses, as far as is known. The numbers are
// those of statfs(2).
func isLocal(dir string) bool {
	var st syscall.Statfs_t
	if syscall.Statfs(dir, &st) != nil {
		return false
	}
	switch uint32(st.Type) {
	case 0xEF53, // ext2, ext3, ext4
		0x58465342, // XFS
		0x9123683E, // Btrfs
		0xCA451A4E, // bcachefs
		0xF2F52010, // F2FS
		0x2FC12FC1, // ZFS
		0x01021994, // tmpfs
		0x794C7630: // overlayfs
		return true
	}
	return false
}
