package program

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links may be on the way to a program, as in the kernel.
const maxLinks = 40

// trusted returns an error unless root and this process's user alone decide which program a path
// names and what is in it: whoever else could, would run as we do. That is asked of the file, of
// each directory above it, and of those that symbolic links lead through. An ACL that gives
// others write permission shows in the mode bits of the group.
func trusted(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is no absolute path", path)
	}
	at, rest := "/", names(path)
	for links := 0; ; {
		info, err := os.Lstat(at)
		if err != nil {
			return plainPath(err)
		}
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return fmt.Errorf("%s: too many symbolic links", path)
			}
			if err := owned(at, info); err != nil { // anybody can put one into /tmp
				return err
			}
			next, err := os.Readlink(at)
			if err != nil {
				return plainPath(err)
			}
			rest = append(names(next), rest...)
			at = filepath.Dir(at)
			if filepath.IsAbs(next) {
				at = "/"
			}
		case len(rest) == 0:
			return trustedFile(at, info)
		default:
			if err := ours(at, info); err != nil {
				return err
			}
		}
		if len(rest) == 0 { // a link to "/"
			return fmt.Errorf("%s is no regular file", path)
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

// names splits a path. ".." stays: after a link it is the parent of where the link led.
func names(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
}

func trustedFile(path string, info fs.FileInfo) error {
	switch {
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is no regular file", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable", path)
	}
	return ours(path, info)
}

// ours refuses what others could write. In a directory with the sticky bit they can only add files,
// not replace those that are there.
func ours(path string, info fs.FileInfo) error {
	sticky := info.IsDir() && info.Mode()&fs.ModeSticky != 0
	if info.Mode().Perm()&0o022 != 0 && !sticky {
		return fmt.Errorf("%s can be written by others (mode %04o)", path, info.Mode().Perm())
	}
	return owned(path, info)
}

func owned(path string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("%s: owner unknown", path)
	}
	if stat.Uid != 0 && stat.Uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s belongs to user %d", path, stat.Uid)
	}
	return nil
}

func plainPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Path, e.Err)
	}
	return err
}
