package main

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/lbctl/lbctl/tools/vm/guestinit"
)

const qemu = "qemu-system-x86_64"

// consoleLines are shown of a kernel that died: a panic with its stack.
const consoleLines = 100

// machine is one guest, from boot to power-off.
type machine struct {
	kernel  kernel
	icount  bool
	timeout time.Duration
	modules []string
	files   []file
	program string // a path of the host, or of the guest when a file is there
	args    []string
	env     []string
}

// file copies a file or a tree from the host into the guest.
type file struct{ host, guest string }

// run boots the guest and copies the program's output to w. It returns the program's exit status
// (128 and its signal when one killed it), or an error with the kernel's last words when the guest
// ended without telling it.
func (m machine) run(ctx context.Context, w io.Writer) (int, error) {
	if _, err := exec.LookPath(qemu); err != nil {
		return 0, fmt.Errorf("%s is missing: apt-get install --no-install-recommends qemu-system-x86, "+
			"or run tools/vm/setup.sh as root", qemu)
	}
	dir, err := os.MkdirTemp("", "lbctl-vm-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)

	job := guestinit.Job{Nonce: rand.Text(), Args: m.args, Env: m.env}
	initramfs, console := filepath.Join(dir, "initramfs"), filepath.Join(dir, "console")
	if err := m.writeInitramfs(initramfs, job); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	status, err := m.boot(ctx, initramfs, console, w, job.Nonce)
	if err != nil {
		return 0, fmt.Errorf("%w; the kernel's last lines:\n%s", err, tail(console, consoleLines))
	}
	return status, nil
}

// boot gives the guest two serial ports. The kernel writes to the first, the program to the
// second, so that neither ever stands in the other's lines.
func (m machine) boot(ctx context.Context, initramfs, console string, w io.Writer, nonce string) (int, error) {
	args := []string{
		"-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "2G",
		"-nodefaults", "-no-reboot", "-display", "none",
		"-serial", "file:" + console, "-serial", "stdio",
		"-kernel", m.kernel.image, "-initrd", initramfs,
		// A kernel that oopses is not one to go on testing; panic=-1 with -no-reboot ends qemu.
		"-append", "console=ttyS0 quiet loglevel=5 panic=-1 oops=panic",
	}
	if m.icount {
		// Without erms and fsrm the kernel copies by loops that TCG counts: rep movsb is one
		// instruction however long it runs.
		args = append(args, "-icount", "shift=0,sleep=off", "-cpu", "max,-erms,-fsrm")
	}
	cmd := exec.CommandContext(ctx, qemu, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	status, found, copyErr := copyOutput(w, stdout, nonce)
	err = cmd.Wait()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return 0, fmt.Errorf("the guest ran for more than %v", m.timeout)
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err != nil:
		return 0, fmt.Errorf("qemu: %w: %s", err, strings.TrimSpace(stderr.String()))
	case copyErr != nil:
		return 0, fmt.Errorf("copy the guest's output: %w", copyErr)
	case !found:
		return 0, errors.New("the guest ended without an exit status")
	}
	return status, nil
}

// writeInitramfs leaves the archive uncompressed: an emulated processor unpacks slowly.
func (m machine) writeInitramfs(name string, job guestinit.Job) error {
	out, err := os.Create(name)
	if err != nil {
		return err
	}
	defer out.Close()
	a := newArchive(out)

	self, err := os.Executable()
	if err != nil {
		return err
	}
	if err := addProgram(a, self, guestinit.Path); err != nil {
		return err
	}
	for _, f := range m.files {
		if err := a.addTree(f.host, f.guest); err != nil {
			return err
		}
	}
	job.Program = m.program
	if !m.isGuestPath(m.program) {
		job.Program = path.Join("/bin", filepath.Base(m.program))
		if err := addProgram(a, m.program, job.Program); err != nil {
			return err
		}
	}
	modules, err := loadOrder(m.kernel.modules, m.modules)
	if err != nil {
		return err
	}
	for _, module := range modules {
		p := path.Join("/lib/modules", module.name+".ko")
		a.add(p, 0o644, module.data)
		job.Modules = append(job.Modules, p)
	}
	data, err := json.Marshal(job)
	if err != nil {
		return err
	}
	a.add(guestinit.JobPath, 0o644, data)
	if err := a.close(); err != nil {
		return err
	}
	return out.Close()
}

func (m machine) isGuestPath(program string) bool {
	for _, f := range m.files {
		rest, inside := strings.CutPrefix(program, f.guest)
		if !inside {
			continue
		}
		if _, err := os.Stat(filepath.Join(f.host, rest)); err == nil {
			return true
		}
	}
	return false
}

// addProgram refuses what would fail in the guest with a bare "no such file or directory": there
// is no loader for shared libraries.
func addProgram(a *archive, host, guest string) error {
	executable, err := elf.Open(host)
	if err != nil {
		return fmt.Errorf("%s: %w", host, err)
	}
	defer executable.Close()
	for _, segment := range executable.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is linked to shared libraries: build it with CGO_ENABLED=0", host)
		}
	}
	data, err := os.ReadFile(host)
	if err != nil {
		return err
	}
	a.add(guest, 0o755, data)
	return nil
}

func tail(name string, n int) string {
	data, err := os.ReadFile(name)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(string(data), "\r", "")), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
