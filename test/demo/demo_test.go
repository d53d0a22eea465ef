// Package demo tests lbctl demo as its users run it: both programs, real namespaces, and nothing left
// behind.
package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/control"
	"github.com/lbctl/lbctl/internal/nettest"
)

// name is that of the demos of these tests: one that somebody runs, or keeps, on this machine is not theirs.
const name = "test"

// programs is the directory of lbd and lbctl, built once for all tests.
var programs string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	// There is one demo of a name at a time; two runs of these tests wait for each other.
	here, err := os.Open(".")
	if err != nil {
		return 0, err
	}
	defer here.Close()
	if err := unix.Flock(int(here.Fd()), unix.LOCK_EX); err != nil {
		return 0, err
	}
	if programs, err = os.MkdirTemp("", "lb-demo-test-"); err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(programs) }()
	// for the test that is not root
	if err := os.Chmod(programs, 0o755); err != nil {
		return 0, err
	}
	build := exec.Command("go", "build", "-o", programs, "../../cmd/lbd", "../../cmd/lbctl")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return 0, fmt.Errorf("build: %w", err)
	}
	return m.Run(), nil
}

// needRoot skips without root, and fails with CI=true.
func needRoot(t *testing.T) {
	t.Helper()
	nettest.New(t)
}

// A run is what a command line led to.
type run struct {
	code           int
	stdout, stderr string
}

func command(args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	stdout, stderr = new(bytes.Buffer), new(bytes.Buffer)
	if args[0] == "demo" && !slices.Contains(args, "--name") {
		args = append(args, "--name", name)
	}
	cmd = exec.Command(filepath.Join(programs, "lbctl"), args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// lbctl runs a command line to its end, which must come within a minute.
func lbctl(t *testing.T, args ...string) run {
	t.Helper()
	cmd, stdout, stderr := command(args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return run{wait(t, cmd), stdout.String(), stderr.String()}
}

// wait returns the exit code; -1 is a signal.
func wait(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err := cmd.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode()
}

// A result is what scripts rely on.
type result struct {
	Scenario         string         `json:"scenario"`
	Connections      int            `json:"connections"`
	Broken           int            `json:"broken"`
	DiedWithNode     int            `json:"died_with_node"`
	PerNode          map[string]int `json:"per_node"`
	DuplicateAnswers int            `json:"duplicate_answers"`
	DuplicateSynAcks int            `json:"duplicate_syn_acks"`
	SynRetransmits   int            `json:"syn_retransmits"`
	StalledOver1s    int            `json:"stalled_over_1s"`
	LongestGapMS     float64        `json:"longest_gap_ms"`
	TakeoverMS       float64        `json:"takeover_ms"`
}

// show runs a demo that must go well.
func show(t *testing.T, args ...string) result {
	t.Helper()
	got := lbctl(t, append([]string{"demo", "-o", "json"}, args...)...)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("lbctl demo %q: code %d\n%s%s", args, got.code, got.stdout, got.stderr)
	}
	decoder := json.NewDecoder(strings.NewReader(got.stdout))
	decoder.DisallowUnknownFields()
	var r result
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v in %s", err, got.stdout)
	}
	if decoder.More() {
		t.Errorf("more than one value in %s", got.stdout)
	}
	sum := 0
	for _, n := range r.PerNode {
		sum += n
	}
	// those that died may be new ones, or ones that were held
	if sum > r.Connections || sum < r.Connections-r.DiedWithNode {
		t.Errorf("the nodes answered %d of %d connections", sum, r.Connections)
	}
	return r
}

// A footprint is what a demo could leave behind, or change.
type footprint struct {
	Namespaces, Pins, Files []string
	Programs                []string // processes
	Links                   []string // of the machine itself
}

func footprintNow(t *testing.T) footprint {
	t.Helper()
	f := footprint{
		Namespaces: glob(t, "/run/netns/lbdemo"+name+"*"),
		Pins:       glob(t, "/sys/fs/bpf/lbdemo"+name+"*"),
		Files:      glob(t, "/run/lbdemo"+name+"*"),
	}
	for _, exe := range glob(t, "/proc/[0-9]*/exe") {
		if path, err := os.Readlink(exe); err == nil && strings.HasPrefix(path, programs) {
			f.Programs = append(f.Programs, exe+" "+path)
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		f.Links = append(f.Links, fmt.Sprint(l, addrs))
	}
	return f
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// leavesNothing checks at the end of the test that the machine is as it was.
func leavesNothing(t *testing.T) {
	t.Helper()
	needRoot(t)
	if got := lbctl(t, "demo", "--clean"); got.code != 0 {
		t.Fatalf("clean: code %d: %s", got.code, got.stderr)
	}
	before := footprintNow(t)
	if len(before.Namespaces)+len(before.Pins)+len(before.Files)+len(before.Programs) > 0 {
		t.Fatalf("after --clean there is %+v", before)
	}
	t.Cleanup(func() {
		if diff := cmp.Diff(before, footprintNow(t)); diff != "" {
			t.Errorf("left behind: -before +after\n%s", diff)
		}
	})
}

// begin starts a demo that goes on for some time, and returns when its two nodes serve.
func begin(t *testing.T, args ...string) (cmd *exec.Cmd, stderr *bytes.Buffer) {
	t.Helper()
	cmd, _, stderr = command(append([]string{"demo", "--nodes", "2", "--duration", "1m"}, args...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for _, node := range []string{"n1", "n2"} {
		nettest.Eventually(t, time.Minute, func() error { return serves(t.Context(), node) })
	}
	return cmd, stderr
}

func serves(ctx context.Context, node string) error {
	client, err := control.Dial(filepath.Join("/run/lbdemo"+name, node, "lbd.sock"))
	if err != nil {
		return err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if status.Generation == 0 || len(status.Problems) > 0 {
		return fmt.Errorf("%s: generation %d, problems %v", node, status.Generation, status.Problems)
	}
	return nil
}

func TestEachConnectionIsAnsweredByOneNode(t *testing.T) {
	leavesNothing(t)
	for _, attach := range []string{"native", "generic"} {
		got := show(t, "--connections", "500", "--attach", attach)
		if got.Scenario != "serve" || got.Connections != 500 || len(got.PerNode) != 3 || got.Broken != 0 || got.DuplicateAnswers != 0 {
			t.Errorf("%s: %+v", attach, got)
		}
	}
}

func TestRestartsOfEveryDaemonBreakNothing(t *testing.T) {
	leavesNothing(t)
	got := show(t, "--scenario", "restart", "--nodes", "2")
	if got.Scenario != "restart" || got.Connections < 100 || len(got.PerNode) != 2 || got.Broken != 0 || got.DuplicateAnswers != 0 {
		t.Errorf("%+v", got)
	}
}

// members plays a scenario of three nodes that are members, in which nothing may break.
func members(t *testing.T, scenario string, args ...string) result {
	t.Helper()
	leavesNothing(t)
	got := show(t, append([]string{"--scenario", scenario}, args...)...)
	if got.Scenario != scenario || got.Connections < 300 || len(got.PerNode) != 3 ||
		got.Broken != 0 || got.DuplicateAnswers != 0 || got.DuplicateSynAcks != 0 {
		t.Errorf("%+v", got)
	}
	return got
}

func TestPlannedChangesStallNothing(t *testing.T) {
	for _, scenario := range []string{"drain", "join", "rolling-restart"} {
		t.Run(scenario, func(t *testing.T) {
			got := members(t, scenario)
			if got.StalledOver1s != 0 || got.LongestGapMS <= 0 || got.TakeoverMS != 0 || got.DiedWithNode != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestTheOthersAnswerForANodeThatIsGone(t *testing.T) {
	for _, scenario := range []string{"crash", "partition"} {
		t.Run(scenario, func(t *testing.T) {
			got := members(t, scenario)
			// it held some of forty connections
			if got.TakeoverMS <= 0 || got.TakeoverMS >= 600 || got.DiedWithNode == 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestBackendsAnswerBehindTwoDirectors(t *testing.T) {
	for _, scenario := range []string{"dr", "tunnel", "nat", "backend-drain"} {
		t.Run(scenario, func(t *testing.T) {
			got := members(t, scenario, "--duration", "4s")
			for _, name := range []string{"b1", "b2", "b3"} {
				if got.PerNode[name] == 0 {
					t.Errorf("%s answered nobody: %+v", name, got)
				}
			}
		})
	}
}

func TestAnAddressMovesToAnotherNode(t *testing.T) {
	leavesNothing(t)
	got := show(t, "--scenario", "failover", "--nodes", "2")
	if got.PerNode["n1"] == 0 || got.PerNode["n2"] == 0 || got.Broken != 0 || got.DuplicateAnswers != 0 ||
		got.TakeoverMS <= 0 || got.TakeoverMS >= 600 || got.DiedWithNode == 0 {
		t.Errorf("%+v", got)
	}
}

func TestAPipeGetsPlainLines(t *testing.T) {
	leavesNothing(t)
	got := lbctl(t, "demo", "--duration", "1500ms", "--nodes", "1")
	if got.code != 0 || strings.Contains(got.stdout, "\x1b") || !strings.Contains(got.stdout, " 0 broken, 0 answered twice") {
		t.Errorf("code %d\n%s%s", got.code, got.stdout, got.stderr)
	}
}

func TestAnInterruptedDemoRemovesEverything(t *testing.T) {
	leavesNothing(t)
	for _, test := range []struct {
		signal   os.Signal
		scenario string
	}{
		{syscall.SIGINT, "serve"}, {syscall.SIGTERM, "serve"}, {syscall.SIGHUP, "serve"},
		{syscall.SIGINT, "rolling-restart"},
	} {
		cmd, stderr := begin(t, "--scenario", test.scenario)
		if err := cmd.Process.Signal(test.signal); err != nil {
			t.Fatal(err)
		}
		if code := wait(t, cmd); code != 1 || stderr.String() != "lbctl: interrupted; everything is removed\n" {
			t.Errorf("%+v: code %d: %s", test, code, stderr)
		}
		if left := glob(t, "/run/netns/lbdemo"+name+"*"); len(left) > 0 {
			t.Errorf("%+v: %q are left", test, left)
		}
	}
}

func TestTheNextDemoRemovesWhatAKilledOneLeft(t *testing.T) {
	leavesNothing(t)
	for _, scenario := range []string{"serve", "drain"} {
		cmd, _ := begin(t, "--scenario", scenario)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		wait(t, cmd)
		if left := footprintNow(t); len(left.Namespaces) != 4 || len(left.Pins) != 2 {
			t.Errorf("a killed demo leaves %+v: this test tests nothing", left)
		}
		show(t, "--connections", "200", "--nodes", "3")
	}
}

func TestThereIsOneDemoAtATime(t *testing.T) {
	leavesNothing(t)
	cmd, stderr := begin(t)
	for _, args := range [][]string{{"demo"}, {"demo", "--clean"}} {
		got := lbctl(t, args...)
		if got.code != 1 || !strings.Contains(got.stderr, "another lbctl demo is running") {
			t.Errorf("lbctl %q: code %d: %s", args, got.code, got.stderr)
		}
	}
	if err := serves(t.Context(), "n1"); err != nil {
		t.Errorf("the first demo was disturbed: %v", err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, cmd); code != 1 {
		t.Errorf("code %d: %s", code, stderr)
	}
}

func TestAKeptClusterServesUntilItIsCleaned(t *testing.T) {
	leavesNothing(t)
	show(t, "--connections", "200", "--keep")
	serving := func(when string) {
		t.Helper()
		for _, node := range []string{"n1", "n2", "n3"} {
			if err := serves(t.Context(), node); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		for _, vip := range []string{"192.0.2.80", "2001:db8::80"} {
			if page := get(t, "lbdemo"+name+"-client", vip); !slices.Contains([]string{"n1", "n2", "n3"}, page) {
				t.Errorf("%s: %s answers %q", when, vip, page)
			}
		}
	}
	serving("at once")
	got := lbctl(t, "demo", "--connections", "50", "--nodes", "1")
	if want := "lbctl: a demo was kept and still runs (namespaces lbdemo" + name + "-*): --replace or --clean removes it, " +
		"and --name makes another one beside it\n"; got.code != 1 || got.stderr != want {
		t.Errorf("the next demo: code %d: %s", got.code, got.stderr)
	}
	show(t, "--connections", "50", "--nodes", "1", "--name", name+"2")
	serving("beside another one")
	show(t, "--connections", "50", "--nodes", "1", "--replace")
	if left := glob(t, "/run/netns/lbdemo"+name+"*"); len(left) > 0 {
		t.Errorf("it was replaced, and %q are left", left)
	}
	show(t, "--connections", "50", "--nodes", "1", "--keep")
	if got := lbctl(t, "demo", "--clean"); got.code != 0 {
		t.Errorf("clean: code %d: %s", got.code, got.stderr)
	}
}

// get fetches a page from inside a namespace and returns its last line.
func get(t *testing.T, namespace, vip string) string {
	t.Helper()
	page := make(chan string)
	go func() {
		runtime.LockOSThread() // for good: the thread ends in the namespace
		answer, err := getInside(namespace, vip)
		if err != nil {
			answer = err.Error()
		}
		page <- answer
	}()
	return <-page
}

func getInside(namespace, vip string) (string, error) {
	file, err := os.Open(filepath.Join("/run/netns", namespace))
	if err != nil {
		return "", err
	}
	defer file.Close()
	if err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err != nil {
		return "", err
	}
	c, err := net.DialTimeout("tcp", net.JoinHostPort(vip, "80"), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(c); err != nil {
		return "", err
	}
	lines := strings.Split(strings.TrimSpace(answer.String()), "\n")
	return lines[len(lines)-1], nil
}

func TestWhatCannotBeShownIsRefused(t *testing.T) {
	leavesNothing(t)
	for _, test := range []struct {
		args   []string
		stderr string
	}{
		{[]string{"--nodes", "0"}, "lbctl: 0 nodes are not 1 to 16\n"},
		{[]string{"--nodes", "17"}, "lbctl: 17 nodes are not 1 to 16\n"},
		{[]string{"--scenario", "chaos"}, "lbctl: scenario \"chaos\" is not one of [serve restart drain join rolling-restart crash partition failover dr tunnel nat backend-drain]\n"},
		{[]string{"--scenario", "drain", "--nodes", "1"}, "lbctl: scenario drain needs 2 nodes\n"},
		{[]string{"--scenario", "partition", "--nodes", "2"}, "lbctl: scenario partition needs 3 nodes: of two, none is the majority\n"},
		{[]string{"--scenario", "crash", "--connections", "9"}, "lbctl: scenario crash ends by itself, not after some connections\n"},
		{[]string{"--attach", "auto"}, "lbctl: attach \"auto\" is not native or generic\n"},
		{[]string{"--duration", "0s"}, "lbctl: a duration of 0s is not positive\n"},
		{[]string{"--connections", "-1"}, "lbctl: -1 connections are not 1 or more\n"},
		{[]string{"--name", "../x"}, "lbctl: name \"../x\" is not of up to 8 letters and digits\n"},
	} {
		got := lbctl(t, append([]string{"demo"}, test.args...)...)
		if got.code != 2 || got.stderr != test.stderr {
			t.Errorf("lbctl demo %q: code %d: %s", test.args, got.code, got.stderr)
		}
	}
	cmd, _, stderr := command("demo")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, cmd); code != 2 || !strings.Contains(stderr.String(), "needs root") {
		t.Errorf("without root: code %d: %s", code, stderr)
	}
}

func TestAMissingDaemonIsNamed(t *testing.T) {
	leavesNothing(t)
	alone := filepath.Join(t.TempDir(), "lbctl")
	if err := os.Link(filepath.Join(programs, "lbctl"), alone); err != nil {
		t.Fatal(err)
	}
	cmd, _, stderr := command("demo")
	cmd.Path, cmd.Env = alone, []string{"PATH="}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, cmd); code != 1 || !strings.Contains(stderr.String(), "no lbd in PATH") {
		t.Errorf("code %d: %s", code, stderr)
	}
}
