package probe

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// script writes a program into a directory of the test's own.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func run(command ...string) Spec { return Spec{Kind: Exec, Exec: ExecSpec{Command: command}} }

var web = netip.MustParseAddrPort("192.0.2.1:443")

func TestExec(t *testing.T) {
	expectDetail(t, web, run("/bin/true"), true, "exit status 0")
	expectDetail(t, web, run("/bin/false"), false, "exit status 1")
	expectDetail(t, web, run(script(t, "echo one; echo two >&2; echo three; exit 3")), false, "exit status 3: one two three")
	expectDetail(t, web, run(script(t, `printf '%s|' "$@"`), "a b", "$HOME", ";"), true, "a b|$HOME|;|")
	expectDetail(t, web, run(script(t, "kill -SEGV $$")), false, "signal: segmentation fault")
	expectDetail(t, web, run(script(t, "cat; pwd")), true, "/") // its input is empty
	expectDetail(t, web, run(), false, "no command")
	expectDetail(t, web, run("/none"), false, "refused: /none: no such file or directory")
	expectDetail(t, web, run("true"), false, "refused: true is no absolute path")

	r := attempt(t, web, run(script(t, "head -c 100000 /dev/zero | tr '\\0' x")), 5*time.Second)
	if !r.OK || r.Detail != strings.Repeat("x", 1024) {
		t.Errorf("ok %v, %d bytes", r.OK, len(r.Detail))
	}
}

func TestAProgramGetsASmallEnvironment(t *testing.T) {
	t.Setenv("SECRET", "x")
	expectDetail(t, web, run("/usr/bin/env"), true, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "+
		"LANG=C.UTF-8 LB_ADDRESS=192.0.2.1 LB_PORT=443")
}

// group returns the processes of a group that are not zombies.
func group(t *testing.T, pgid int) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		fields := strings.Fields(string(text[strings.LastIndex(string(text), ")")+1:]))
		if fields[0] != "Z" && fields[2] == strconv.Itoa(pgid) {
			found = append(found, string(text))
		}
	}
	return found
}

// pidIn reads the number that a script wrote about itself.
func pidIn(t *testing.T, path string) int {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// What was killed is a zombie at once, or on its way to be: the test looks until it is gone.
func expectNobody(t *testing.T, pgid int) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
		left := group(t, pgid)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			_ = unix.Kill(-pgid, unix.SIGKILL)
			t.Fatalf("left behind: %q", left)
		}
	}
}

func TestATimeoutLeavesNoProcess(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	text := "trap '' TERM INT; echo $$ > " + pid + "; echo begun; sleep 1000 & sleep 1000; sleep 1000"
	r := attempt(t, web, run(script(t, text)), 500*time.Millisecond)
	if r.OK || r.Detail != "timeout, killed: begun" {
		t.Errorf("ok %v, %q", r.OK, r.Detail)
	}
	expectNobody(t, pidIn(t, pid))
}

func TestAProgramThatEndsLeavesNoProcess(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := attempt(t, web, run(script(t, "echo $$ > "+pid+"; echo done; sleep 1000 &")), 5*time.Second)
	if !r.OK || r.Detail != "done" || r.Took > 2*time.Second {
		t.Errorf("ok %v, %q after %s", r.OK, r.Detail, r.Took)
	}
	expectNobody(t, pidIn(t, pid))
}

// A daemon of another session that keeps our pipe open must not keep us.
func TestAProgramWhoseOutputStaysOpenEndsAllTheSame(t *testing.T) {
	pid := filepath.Join(t.TempDir(), "pid")
	r := attempt(t, web, run(script(t, "setsid sh -c 'echo $$ > "+pid+"; exec sleep 1000' & while ! test -s "+pid+"; do :; done; echo done")), 5*time.Second)
	if !r.OK || r.Detail != "done" || r.Took > 2*time.Second {
		t.Errorf("ok %v, %q after %s", r.OK, r.Detail, r.Took)
	}
	if err := unix.Kill(pidIn(t, pid), unix.SIGKILL); err != nil {
		t.Error(err)
	}
}

func TestACancelledProbeEndsAtOnce(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	spec := run("/bin/sleep", "1000")
	if r := Probe(ctx, web, &spec); r.OK || r.Took > 2*time.Second {
		t.Errorf("ok %v after %s", r.OK, r.Took)
	}
}

func TestAProgramThatOthersCouldReplaceIsRefused(t *testing.T) {
	const nobody = 65534
	for _, c := range []struct {
		name string
		make func(dir string) error // dir is 0755 and ours, with bin/check in it
		path string                 // below dir; empty: bin/check
		want string                 // DIR stands for dir
	}{
		{"all is as it should be", func(string) error { return nil }, "", ""},
		{"the file is world-writable", func(dir string) error { return os.Chmod(dir+"/bin/check", 0o757) }, "",
			"refused: DIR/bin/check can be written by others (mode 0757)"},
		{"the file is group-writable", func(dir string) error { return os.Chmod(dir+"/bin/check", 0o775) }, "",
			"refused: DIR/bin/check can be written by others (mode 0775)"},
		{"its directory is world-writable", func(dir string) error { return os.Chmod(dir+"/bin", 0o777) }, "",
			"refused: DIR/bin can be written by others (mode 0777)"},
		{"a directory above is group-writable", func(dir string) error { return os.Chmod(dir, 0o775) }, "",
			"refused: DIR can be written by others (mode 0775)"},
		{"its directory is sticky: others can only add", func(dir string) error { return os.Chmod(dir+"/bin", 0o777|os.ModeSticky) }, "", ""},
		{"the file belongs to somebody else", func(dir string) error { return os.Chown(dir+"/bin/check", nobody, 0) }, "",
			"refused: DIR/bin/check belongs to user 65534"},
		{"its directory belongs to somebody else", func(dir string) error { return os.Chown(dir+"/bin", nobody, 0) }, "",
			"refused: DIR/bin belongs to user 65534"},
		{"the file is no program", func(dir string) error { return os.Chmod(dir+"/bin/check", 0o644) }, "",
			"refused: DIR/bin/check is not executable"},
		{"it is a directory", func(string) error { return nil }, "/bin", "refused: DIR/bin is no regular file"},
		{"a link to it", func(dir string) error { return os.Symlink("bin/check", dir+"/link") }, "/link", ""},
		{"a link up and down again", func(dir string) error { return os.Symlink("../bin/./check", dir+"/bin/link") }, "/bin/link", ""},
		{"a link to a directory", func(dir string) error { return os.Symlink("bin", dir+"/link") }, "/link/check", ""},
		{"a link of somebody else", func(dir string) error {
			if err := os.Symlink("bin/check", dir+"/link"); err != nil {
				return err
			}
			return os.Lchown(dir+"/link", nobody, 0)
		}, "/link", "refused: DIR/link belongs to user 65534"},
		{"a link through a directory that others can write", func(dir string) error {
			if err := os.Symlink("open/../bin/check", dir+"/link"); err != nil {
				return err
			}
			if err := os.Mkdir(dir+"/open", 0o755); err != nil {
				return err
			}
			return os.Chmod(dir+"/open", 0o777)
		}, "/link", "refused: DIR/open can be written by others (mode 0777)"},
		{"links in a circle", func(dir string) error { return os.Symlink("link", dir+"/link") }, "/link",
			"refused: DIR/link: too many symbolic links"},
		{"a link to nothing", func(dir string) error { return os.Symlink("none", dir+"/link") }, "/link",
			"refused: DIR/none: no such file or directory"},
		{"a link to the root", func(dir string) error { return os.Symlink("/", dir+"/link") }, "/link",
			"refused: DIR/link is no regular file"},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(dir+"/bin", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(dir+"/bin/check", []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := c.make(dir); err != nil {
			t.Fatal(fmt.Errorf("%s: %w", c.name, err))
		}
		path := dir + "/bin/check"
		if c.path != "" {
			path = dir + c.path
		}
		want, ok := strings.ReplaceAll(c.want, "DIR", dir), c.want == ""
		if ok {
			want = "ran"
		}
		if r := attempt(t, web, run(path), 5*time.Second); r.OK != ok || r.Detail != want {
			t.Errorf("%s: ok %v, %q, want %q", c.name, r.OK, r.Detail, want)
		}
	}
}
