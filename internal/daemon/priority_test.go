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
		if err := hurry(); err != nil {
			t.Fatal(err)
		}
		got, err := urgency()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println(got)
		return
	}
	if os.Geteuid() != 0 {
		const reason = "negative nice values need root"
		if os.Getenv("CI") == "true" {
			t.Fatal(reason)
		}
		t.Skip(reason)
	}
	now, err := urgency()
	if err != nil {
		t.Fatal(err)
	}
	_, session, _ := strings.Cut(now, ", ")
	own := session
	if session != "session " {
		own = "session nice -10"
	}
	for _, test := range []struct {
		what  string
		leads bool
		want  string
	}{
		{"a process of a session with others", false, "nice -10, " + session},
		{"the first process of a session", true, "nice -10, " + own},
	} {
		cmd := exec.Command("/proc/self/exe", "-test.run", "^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), asDaemon+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: test.leads}
		out, err := cmd.CombinedOutput()
		if first, _, _ := strings.Cut(string(out), "\n"); err != nil || first != test.want {
			t.Errorf("%s: %v: %s, want %s", test.what, err, out, test.want)
		}
	}
}
