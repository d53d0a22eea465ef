package control

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// asNobody runs fn on a thread of another user, which ends with it.
func asNobody(fn func()) {
	const nobody = 65534
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		// Not the one of package syscall: that changes all threads.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno == 0 {
			fn()
		}
	}()
	<-done
}

// Needs root, as lbd does, to be somebody else for a moment.
func TestOnlyRootSeesTheSeed(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	path := serve(t, Daemon{ConfigYAML: func(seed bool) []byte {
		if seed {
			return []byte("seed: 5ec7e7")
		}
		return []byte("seed: hidden")
	}})
	// let everybody in, as the group is
	for dir := filepath.Dir(path); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	client := dial(t, path)
	for seed, want := range map[bool]string{true: "seed: 5ec7e7", false: "seed: hidden"} {
		if text, err := client.Config(t.Context(), seed); err != nil || string(text) != want {
			t.Errorf("root: %q, %v, want %q", text, err, want)
		}
	}

	// the HTTP client connects on goroutines of its own, so one connection is made by hand
	ask := func(query string) (code int, err error) {
		asNobody(func() { code, err = status(path, "/v1/config"+query) })
		return code, err
	}
	for query, want := range map[string]int{
		"": http.StatusOK, "?seed": http.StatusForbidden, "?seed=1": http.StatusForbidden, "?seed=false": http.StatusForbidden,
	} {
		if code, err := ask(query); code != want {
			t.Errorf("nobody asks for %q: %d, %v, want %d", query, code, err, want)
		}
	}
}

// status is what a GET on a connection of the calling thread is answered with.
func status(path, query string) (int, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	request, err := http.NewRequest(http.MethodGet, "http://lbd"+query, nil)
	if err != nil {
		return 0, err
	}
	if err := request.Write(conn); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	return response.StatusCode, nil
}
