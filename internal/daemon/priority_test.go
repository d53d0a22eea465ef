package daemon

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asDaemon makes this test's process hurry and tell how urgent it is then.
const asDaemon = "LB_TEST_HURRY"

// noSession is what urgency says of sessions where the kernel does not share by them, or not this
// one: a control group may do it instead, and one session have a nice value where another has none.
const noSession = "session "

// urgency is the nice value of the process and, where the kernel has such, that of its session.
func urgency() (string, error) {
	raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0)
	if err != nil {
		return "", err
	}
	group, err := os.ReadFile("/proc/self/autogroup")
	if err != nil && !os.IsNotExist(err) {
		return "", err
	}
	_, session, _ := strings.Cut(strings.TrimSpace(string(group)), " ")
	return fmt.Sprintf("nice %d, session %s", 20-raw, session), nil
}

func TestALeaseIsRenewedBeforeOthersCompute(t *testing.T) {
	if os.Getenv(asDaemon) != "" {
		before, err := urgency()
		if err != nil {
			t.Fatal(err)
		}
		if err := hurry(); err != nil {
			t.Fatal(err)
		}
		after, err := urgency()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(before)
		fmt.Println(after)
		return
	}
	if os.Geteuid() != 0 {
		const reason = "negative nice values need root"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	for _, test := range []struct {
		what  string
		leads bool
	}{
		{"a process of a session with others", false},
		{"the first process of a session", true},
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), asDaemon+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: test.leads}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", test.what, err, out)
		}
		before, rest, _ := strings.Cut(string(out), "\n")
		after, _, _ := strings.Cut(rest, "\n")
		_, session, _ := strings.Cut(before, ", ")
		if test.leads && session != noSession {
			session = "session nice -10"
		}
		if want := "nice -10, " + session; after != want {
			t.Errorf("%s: %s, then %s, want %s", test.what, before, after, want)
		}
	}
}
