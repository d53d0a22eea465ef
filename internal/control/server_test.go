package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/lbctl/lbctl/internal/config"
)

// serve runs a daemon on a socket of its own until the test ends.
func serve(t testing.TB, daemon Daemon) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "lbd.sock")
	listener := listenOn(t, path)
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, listener, daemon.Handler(), slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return path
}

func dial(t testing.TB, path string) *Client {
	t.Helper()
	client, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAStatusArrivesSortedAndWithoutNulls(t *testing.T) {
	a, b := netip.MustParseAddr("192.0.2.80"), netip.MustParseAddr("2001:db8::80")
	sent := Status{
		Problems: []string{"the worst", "another"},
		Attach:   []Attachment{{Interface: "eth1"}, {Interface: "eth0"}},
		VIPs:     []VIP{{Address: b}, {Address: a}},
		Services: []Service{
			{Name: "web", VIP: b},
			{Name: "web", VIP: a, Shares: []Share{{"n2", 0.5}, {"n1", 0.5}}},
			{Name: "dns", VIP: a},
		},
		Nodes: []Node{{Name: "n2"}, {Name: "n1", Addresses: []netip.Addr{b, a}}},
	}
	want := Status{
		Problems: []string{"the worst", "another"},
		Attach:   []Attachment{{Interface: "eth0"}, {Interface: "eth1"}},
		VIPs:     []VIP{{Address: a}, {Address: b}},
		Services: []Service{
			{Name: "dns", VIP: a, Ports: []string{}, Shares: []Share{}},
			{Name: "web", VIP: a, Ports: []string{}, Shares: []Share{{"n1", 0.5}, {"n2", 0.5}}},
			{Name: "web", VIP: b, Ports: []string{}, Shares: []Share{}},
		},
		Nodes: []Node{{Name: "n1", Addresses: []netip.Addr{b, a}}, {Name: "n2", Addresses: []netip.Addr{}}},
		Drift: []string{},
	}
	path := serve(t, Daemon{Status: func(context.Context) (Status, error) { return sent, nil }})
	got, err := dial(t, path).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if sent.VIPs[0].Address != b {
		t.Error("the daemon's own status was sorted")
	}
}

func TestEachRequestReachesItsFunction(t *testing.T) {
	changes, moves := []config.Change{{}}, []SlotMoves{{"web", 655, 0.01}}
	path := serve(t, Daemon{
		ConfigYAML: func(bool) []byte { return []byte("cluster: demo\n") },
		ConfigDiff: func(candidate []byte) (ConfigDiff, error) {
			if string(candidate) != "cluster: other\n" {
				return ConfigDiff{}, fmt.Errorf("the candidate is %q", candidate)
			}
			return ConfigDiff{Changes: changes, Moves: moves}, nil
		},
		Reload: func(context.Context) (ReloadResult, error) { return ReloadResult{Generation: 7}, nil },
	})
	client := dial(t, path)

	text, err := client.Config(t.Context(), false)
	if string(text) != "cluster: demo\n" || err != nil {
		t.Errorf("config: %q, %v", text, err)
	}
	got, err := client.Diff(t.Context(), []byte("cluster: other\n"))
	if diff := cmp.Diff(ConfigDiff{Changes: changes, Moves: moves}, got); diff != "" || err != nil {
		t.Errorf("diff: %v, -want +got:\n%s", err, diff)
	}
	result, err := client.Reload(t.Context())
	if diff := cmp.Diff(&ReloadResult{Generation: 7, Changes: []config.Change{}}, result); diff != "" || err != nil {
		t.Errorf("reload: %v, -want +got:\n%s", err, diff)
	}
}

func TestAnErrorOfTheDaemonIsInternal(t *testing.T) {
	path := serve(t, Daemon{Status: func(context.Context) (Status, error) {
		return Status{}, errors.New("read counters: no such map")
	}})
	_, err := dial(t, path).Status(t.Context())
	want := &Error{Code: http.StatusInternalServerError, Message: "read counters: no such map"}
	if diff := cmp.Diff(error(want), err); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsNotServedIsAnsweredWithJSON(t *testing.T) {
	path := serve(t, Daemon{})
	for _, test := range []struct {
		method, path string
		want         *Error
	}{
		{http.MethodGet, "/v1/none", &Error{Code: http.StatusNotFound, Message: "no such path: /v1/none"}},
		{http.MethodPost, "/v1/status", &Error{Code: http.StatusMethodNotAllowed, Message: "POST is not allowed here"}},
		{http.MethodGet, "/v1/config/reload", &Error{Code: http.StatusMethodNotAllowed, Message: "GET is not allowed here"}},
	} {
		_, err := dial(t, path).get(t.Context(), test.method, test.path, nil)
		if diff := cmp.Diff(error(test.want), err); diff != "" {
			t.Errorf("%s %s: -want +got:\n%s", test.method, test.path, diff)
		}
	}
}

func TestACandidateThatIsTooLargeIsRefused(t *testing.T) {
	path := serve(t, Daemon{ConfigDiff: func([]byte) (ConfigDiff, error) {
		t.Error("the daemon was asked")
		return ConfigDiff{}, nil
	}})
	_, err := dial(t, path).Diff(t.Context(), make([]byte, maxFile+1))
	if answer, ok := errors.AsType[*Error](err); !ok || answer.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("error %v, want 413", err)
	}
}

func TestADaemonThatIsNotThereIsUnreachable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	if _, err := Dial(path); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want ErrUnreachable with the path", err)
	}
	listener := listenOn(t, path)
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			conn.Close() // as a daemon that stops
		}
	}()
	client := dial(t, path)
	if _, err := client.Status(t.Context()); !errors.Is(err, ErrUnreachable) {
		t.Errorf("error %v, want ErrUnreachable", err)
	}
}

func TestStoppingWaitsForARequestToEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	entered, leave := make(chan struct{}), make(chan struct{})
	daemon := Daemon{Status: func(context.Context) (Status, error) {
		close(entered)
		<-leave
		return Status{Node: "n1"}, nil
	}}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	listener := listenOn(t, path)
	go func() {
		served <- Serve(ctx, listener, daemon.Handler(), slog.New(slog.DiscardHandler))
	}()

	client := dial(t, path)
	answered := make(chan error, 1)
	go func() {
		status, err := client.Status(context.Background())
		if err == nil && status.Node != "n1" {
			err = fmt.Errorf("node %q", status.Node)
		}
		answered <- err
	}()
	<-entered
	stop()
	waitUntilGone(t, path)
	close(leave)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// waitUntilGone returns when nothing answers any more.
func waitUntilGone(t *testing.T, path string) {
	t.Helper()
	for range 200 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return
		}
		conn.Close()
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("the socket still answers")
}
