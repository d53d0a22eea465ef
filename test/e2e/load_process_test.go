package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/lbctl/lbctl/internal/netlab"
)

// The standard load has more connections than one process may have descriptors: each side of it is a
// process of its own, this binary again, told what to be by its environment.
const (
	roleVariable    = "LB_E2E_ROLE"
	optionsVariable = "LB_E2E_OPTIONS"
)

// roles are what this binary can be instead of a test. One ends when its standard input does, and
// writes "ready" and, at its end, what it has to tell.
var roles = map[string]func(ctx context.Context, options []byte, ready func()) (result any, err error){
	"rusher": playRusher,
	"client": playClient,
	"flood":  playFlood,
	"server": playServer,
}

// played says whether this process is one side of a load, which has ended by now with that exit code.
func played() (code int, yes bool) {
	play := roles[os.Getenv(roleVariable)]
	if play == nil {
		return 0, false
	}
	// A load that the machine does not let run is none. Not every kernel has groups.
	_ = os.WriteFile("/proc/self/autogroup", []byte("-5"), 0)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	result, err := play(ctx, []byte(os.Getenv(optionsVariable)), func() { fmt.Println("ready") })
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: load:", err)
		return 1, true
	}
	return 0, true
}

// A side is a process of a load.
type side struct {
	name   string
	cmd    *netlab.Command
	stdin  io.Closer
	stdout *bufio.Reader
	stderr *logs
}

// startSide starts one inside a host and returns when it is ready. It dies with the host.
func startSide(t testing.TB, host *netlab.Host, role string, options any) *side {
	t.Helper()
	text, err := json.Marshal(options)
	check(t, err)
	s := &side{name: role + " on " + host.Name, stderr: &logs{}}
	s.cmd = host.Command(context.Background(), "/proc/self/exe")
	s.cmd.Env = append(os.Environ(), roleVariable+"="+role, optionsVariable+"="+string(text))
	s.cmd.Stderr = s.stderr
	s.cmd.SysProcAttr.Setsid = true // on a busy machine each session gets a part of it
	s.stdin, err = s.cmd.StdinPipe()
	check(t, err)
	stdout, err := s.cmd.StdoutPipe()
	check(t, err)
	s.stdout = bufio.NewReader(stdout)
	check(t, s.cmd.Start())
	t.Cleanup(func() { s.kill() })
	if line, err := s.stdout.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %q, %v\n%s", s.name, line, err, s.stderr)
	}
	return s
}

// finish ends it in order and returns what it tells.
func finish[T any](t testing.TB, s *side) (result T) {
	t.Helper()
	_ = s.stdin.Close()
	late := time.AfterFunc(time.Minute, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	if err := json.NewDecoder(s.stdout).Decode(&result); err != nil {
		t.Fatalf("%s: %v\n%s", s.name, err, s.stderr)
	}
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", s.name, err, s.stderr)
	}
	return result
}

// kill ends it as a crash of its host would.
func (s *side) kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}
