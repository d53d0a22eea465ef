package probe

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/health"
)

func tryFile(_ context.Context, _ netip.AddrPort, spec *Spec) (health.Result, error) {
	want := &spec.File
	_, err := os.Stat(want.Path)
	there := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return failed("file %s: %w", want.Path, plain(err)) // unknown is not absent
	case want.Absent && there:
		return failed("file %s is there, want it absent", want.Path)
	case want.Absent:
		return found("file %s is absent", want.Path)
	case !there:
		return failed("file %s is absent", want.Path)
	case want.Contains == "":
		return found("file %s is there", want.Path)
	}
	return contains(want)
}

func contains(want *FileSpec) (health.Result, error) {
	// A pipe without a writer would keep us for ever.
	file, err := os.OpenFile(want.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return failed("file %s: %w", want.Path, plain(err))
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return failed("file %s is no regular file", want.Path)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxExpect))
	if err != nil {
		return failed("file %s: %w", want.Path, plain(err))
	}
	if !bytes.Contains(content, []byte(want.Contains)) {
		return failed("file %s has %s, want %q", want.Path, quote(content), want.Contains)
	}
	return found("file %s has %q", want.Path, want.Contains)
}
