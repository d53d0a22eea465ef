// Package guestinit is the first process of a guest: it makes the machine usable, runs one
// program and powers off.
//
// It fails by panic: when init ends the kernel panics, qemu ends, and the host shows the console
// with the reason on it.
package guestinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// Path is where the kernel looks for init in an initramfs, and what argv[0] then is.
	Path = "/init"
	// JobPath holds a Job as JSON.
	JobPath = "/job.json"

	// output is the second serial port; the first is the kernel's console.
	output = "/dev/ttyS1"
)

// Job is what the host wants of the guest.
type Job struct {
	Nonce   string // marks the line with the exit status
	Program string
	Args    []string
	Env     []string // K=V, over what every guest has
	Modules []string // paths, dependencies first
}

// StatusPrefix precedes the exit status in the output.
func StatusPrefix(nonce string) string { return "\x1e" + nonce + " status " }

// ParseStatus reads what follows the prefix.
func ParseStatus(report string) (int, error) { return strconv.Atoi(strings.TrimSpace(report)) }

// Main runs the job and powers off; it does not return.
func Main() {
	mountAll()
	data, err := os.ReadFile(JobPath)
	check(err)
	var job Job
	check(json.Unmarshal(data, &job))
	for _, module := range job.Modules {
		check(load(module))
	}
	setSysctls()

	out, err := openOutput()
	check(err)
	status := run(job, out)
	_, err = fmt.Fprintf(out, "%s%d\n", StatusPrefix(job.Nonce), status)
	check(err)
	// Power-off does not wait for what the port still holds; TCSBRK with an argument is tcdrain.
	check(unix.IoctlSetInt(int(out.Fd()), unix.TCSBRK, 1))
	check(unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF))
}

// run returns the exit status as a shell would: 128 and the signal for a program that was killed,
// 127 for one that did not start.
func run(job Job, out *os.File) int {
	cmd := exec.Command(job.Program, job.Args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append([]string{"CI=true", "HOME=/root", "TMPDIR=/tmp", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, job.Env...)
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if wait := exit.Sys().(syscall.WaitStatus); wait.Signaled() {
			return 128 + int(wait.Signal())
		}
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(out, "guest:", err)
		return 127
	}
	return 0
}

// load takes a module that is there already for loaded.
func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load %s: %w", path, err)
	}
	return nil
}

// openOutput makes the port pass bytes as they are: no carriage returns before newlines.
func openOutput() (*os.File, error) {
	f, err := os.OpenFile(output, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	termios, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	termios.Oflag &^= unix.OPOST
	termios.Cflag = termios.Cflag&^unix.CBAUD | unix.B115200 | unix.CLOCAL
	return f, unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, termios)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
