package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lbctl/lbctl/tools/vm/guestinit"
)

func TestMain(m *testing.M) {
	// The guest's init is the program that boots it: here, this test.
	if os.Args[0] == guestinit.Path {
		guestinit.Main()
	}
	os.Exit(m.Run())
}

// guest is a machine that runs testdata/guest in 6.1.
func guest(t *testing.T, args ...string) machine {
	t.Helper()
	if _, err := exec.LookPath(qemu); err != nil {
		t.Skip("needs qemu-system-x86: run tools/vm/setup.sh")
	}
	program := filepath.Join(t.TempDir(), "guest")
	build := exec.Command("go", "build", "-o", program, "./testdata/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kernel, err := findKernel(t.Context(), "6.1")
	if err != nil {
		t.Fatal(err)
	}
	return machine{kernel: kernel, timeout: 5 * time.Minute, modules: baseModules, program: program, args: args}
}

func TestOutputAndStatusOfTheProgramComeBack(t *testing.T) {
	m := guest(t, "report")
	given := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(given, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	m.files = []file{{host: given, guest: "/given/file"}}
	m.modules = append([]string{"xt_cluster"}, baseModules...)
	m.icount = true

	var out strings.Builder
	status, err := m.run(t.Context(), &out)
	if err != nil || status != 7 {
		t.Errorf("status %d, %v, want 7", status, err)
	}
	release := strings.TrimPrefix(filepath.Base(m.kernel.image), "vmlinuz-")
	want := "<nil> " + release + "\n" +
		`/given/file "hello" <nil>` + "\n" +
		`/proc/sys/net/core/bpf_jit_enable "1\n" <nil>` + "\n" +
		`/sys/class/net/lo/operstate "unknown\n" <nil>` + "\n" +
		"xt_cluster <nil> CI=true"
	if out.String() != want {
		t.Errorf("output %q, want %q", out.String(), want)
	}
}

func TestAProgramThatIsKilledHasAStatusOfAShell(t *testing.T) {
	status, err := guest(t, "signal").run(t.Context(), t.Output())
	if err != nil || status != 128+9 {
		t.Errorf("status %d, %v, want 137", status, err)
	}
}

func TestAKernelThatPanicsIsAnErrorWithItsLastLines(t *testing.T) {
	var out strings.Builder
	_, err := guest(t, "crash").run(t.Context(), &out)
	if err == nil || !strings.Contains(err.Error(), "sysrq triggered crash") {
		t.Errorf("error %v, want the kernel's panic", err)
	}
	if out.String() != "before the crash\n" {
		t.Errorf("output %q", out.String())
	}
}

func TestAGuestThatRunsTooLongIsEnded(t *testing.T) {
	m := guest(t, "hang")
	m.timeout = 2 * time.Second
	_, err := m.run(t.Context(), t.Output())
	if err == nil || !strings.Contains(err.Error(), "ran for more than 2s") {
		t.Errorf("error %v, want a timeout", err)
	}
}

func TestOutputComesAsItIsWrittenAndAnInterruptEndsTheGuest(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := interrupter{cancel: cancel}
	_, err := guest(t, "hang").run(ctx, &out)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if out.text.String() != "before the hang\n" {
		t.Errorf("output %q", out.text.String())
	}
}

// interrupter stands for a person who presses Ctrl-C at the first line.
type interrupter struct {
	text   strings.Builder
	cancel func()
}

func (i *interrupter) Write(p []byte) (int, error) {
	if len(p) > 0 {
		defer i.cancel()
	}
	return i.text.Write(p)
}

func TestTheNewestPlainKernelIsTaken(t *testing.T) {
	const list = `linux-image-6.1.0-9-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-56-amd64 - Linux 6.1 for 64-bit PCs (signed)
linux-image-6.1.0-57-amd64-unsigned - Linux 6.1 for 64-bit PCs
linux-image-6.1.0-58-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-59-rt-amd64 - Linux 6.1 for 64-bit PCs (signed), PREEMPT_RT
linux-image-6.12.9+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.73+deb12-amd64 - Linux 6.12 for 64-bit PCs (signed)
linux-image-6.12.74+deb12-amd64-dbg - Debug symbols for linux-image-6.12.74+deb12-amd64
linux-image-amd64 - Linux for 64-bit PCs (meta-package)
`
	for series, want := range map[string]string{
		"6.1":  "linux-image-6.1.0-56-amd64",
		"6.12": "linux-image-6.12.73+deb12-amd64",
		"6.2":  "",
	} {
		if got := newest(list, series); got != want {
			t.Errorf("%s: %q, want %q", series, got, want)
		}
	}
}
