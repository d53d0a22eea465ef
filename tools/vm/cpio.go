package main

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// archive writes a cpio archive of the format newc, the one the kernel unpacks
// (Documentation/driver-api/early-userspace/buffer-format.rst). Errors stick in the bufio.Writer
// until close.
type archive struct {
	w     *bufio.Writer
	inode int
	dirs  map[string]bool // written so far: the kernel makes no parents by itself
}

// Modes of cpio are those of stat(2).
const (
	modeDir     = 0o040755
	modeRegular = 0o100000
	modeSymlink = 0o120777
)

func newArchive(w io.Writer) *archive {
	return &archive{w: bufio.NewWriter(w), dirs: map[string]bool{"/": true}}
}

// add writes a file under its absolute path in the guest.
func (a *archive) add(name string, mode fs.FileMode, data []byte) {
	a.mkdir(path.Dir(name))
	a.entry(name, modeRegular|int(mode.Perm()), data)
}

// addTree copies a file, or a directory with all in it. Symbolic links stay what they are, except
// when host itself is one.
func (a *archive) addTree(host, guest string) error {
	host, err := filepath.EvalSymlinks(host)
	if err != nil {
		return err
	}
	return filepath.WalkDir(host, func(from string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := path.Join(guest, filepath.ToSlash(from[len(host):]))
		switch {
		case d.IsDir():
			a.mkdir(to)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(from)
			if err != nil {
				return err
			}
			a.mkdir(path.Dir(to))
			a.entry(to, modeSymlink, []byte(target))
		default:
			info, err := d.Info()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(from)
			if err != nil {
				return err
			}
			a.add(to, info.Mode(), data)
		}
		return nil
	})
}

func (a *archive) mkdir(name string) {
	if a.dirs[name] {
		return
	}
	a.mkdir(path.Dir(name))
	a.dirs[name] = true
	a.entry(name, modeDir, nil)
}

func (a *archive) entry(name string, mode int, data []byte) {
	a.inode++
	name = name[1:] // relative to the root that is being filled
	const links, magic = 1, "070701"
	fmt.Fprintf(a.w, "%s%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00", magic,
		a.inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	const header = len(magic) + 13*8
	a.pad(header + len(name) + 1)
	a.w.Write(data)
	a.pad(len(data))
}

// pad fills up to four bytes.
func (a *archive) pad(n int) {
	a.w.Write(make([]byte, -n&3))
}

func (a *archive) close() error {
	a.entry("/TRAILER!!!", 0, nil)
	return a.w.Flush()
}
