package guestinit

import (
	"os"

	"golang.org/x/sys/unix"
)

func mountAll() {
	for _, m := range []struct{ fstype, target string }{
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"devtmpfs", "/dev"},
		{"devpts", "/dev/pts"},
		{"tmpfs", "/dev/shm"},
		{"tmpfs", "/run"},
		{"tmpfs", "/tmp"},
		{"cgroup2", "/sys/fs/cgroup"},
		{"bpf", "/sys/fs/bpf"},
		{"tracefs", "/sys/kernel/tracing"},
	} {
		check(os.MkdirAll(m.target, 0o755))
		check(unix.Mount(m.fstype, m.target, m.fstype, 0, ""))
	}
	check(os.Chmod("/tmp", 0o1777))
	check(os.MkdirAll("/root", 0o700))
}

func setSysctls() {
	for _, s := range []struct{ file, value string }{
		// Measure and verify what runs elsewhere, not the interpreter.
		{"/proc/sys/net/core/bpf_jit_enable", "1"},
		{"/sys/class/net/lo/flags", "0x9"}, // IFF_UP | IFF_LOOPBACK
	} {
		check(os.WriteFile(s.file, []byte(s.value), 0))
	}
}
