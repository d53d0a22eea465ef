package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// kernel is an unpacked package of Debian's.
type kernel struct {
	image   string // vmlinuz
	modules string // lib/modules/<release>
}

// findKernel returns the newest kernel of a series (6.1, 6.12) that apt knows. The package is
// downloaded and unpacked into the cache directory of the user at its first use; it is never
// installed.
func findKernel(ctx context.Context, series string) (kernel, error) {
	pkg, err := newestPackage(ctx, series)
	if err != nil {
		return kernel{}, fmt.Errorf("kernel %s: %w", series, err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return kernel{}, err
	}
	dir := filepath.Join(cache, "lbctl-vm", pkg)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := fetch(ctx, pkg, dir); err != nil {
			return kernel{}, fmt.Errorf("kernel %s: %w", series, err)
		}
	}
	release := strings.TrimPrefix(pkg, "linux-image-")
	return kernel{
		image:   filepath.Join(dir, "boot", "vmlinuz-"+release),
		modules: filepath.Join(dir, "lib", "modules", release),
	}, nil
}

func newestPackage(ctx context.Context, series string) (string, error) {
	out, err := output(exec.CommandContext(ctx, "apt-cache", "search", "--names-only", "^linux-image-"))
	if err != nil {
		return "", err
	}
	pkg := newest(out, series)
	if pkg == "" {
		return "", errors.New("apt knows no such package; tools/vm/setup.sh updates its lists")
	}
	return pkg, nil
}

// newest picks from the output of apt-cache search. Names end in -amd64 only where the kernel is
// signed and of the plain flavour; -cloud and -rt lack drivers or run otherwise.
func newest(list, series string) string {
	name := regexp.MustCompile(`(?m)^linux-image-` + regexp.QuoteMeta(series) + `\.[0-9.+~deb-]+-amd64\b(?: |$)`)
	var names []string
	for _, match := range name.FindAllString(list, -1) {
		names = append(names, strings.TrimSpace(match))
	}
	if len(names) == 0 {
		return ""
	}
	return slices.MaxFunc(names, func(a, b string) int { return slices.Compare(numbers(a), numbers(b)) })
}

// numbers makes 6.12.9 older than 6.12.73, which the order of strings does not.
func numbers(name string) []int {
	var ns []int
	for _, digits := range regexp.MustCompile(`[0-9]+`).FindAllString(name, -1) {
		n, _ := strconv.Atoi(digits) // absurdly long digits end up as the largest int
		ns = append(ns, n)
	}
	return ns
}

// fetch unpacks beside dir and renames, so that dir is complete whenever it exists.
func fetch(ctx context.Context, pkg, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)

	// apt's own user cannot write to temp; without its sandbox it says nothing about that.
	download := exec.CommandContext(ctx, "apt-get", "-o", "APT::Sandbox::User=root", "download", pkg)
	download.Dir = temp
	if _, err := output(download); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(temp, "*.deb"))
	if err != nil || len(debs) != 1 {
		return cmp.Or(err, fmt.Errorf("apt-get download %s gave %d files", pkg, len(debs)))
	}
	tree := filepath.Join(temp, "tree")
	if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", debs[0], tree)); err != nil {
		return err
	}
	// Another process may have been faster, with the same result.
	if err := os.Rename(tree, dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// output runs cmd; an error carries what the command said.
func output(cmd *exec.Cmd) (string, error) {
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
