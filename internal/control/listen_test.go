package control

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestTheSocketHasItsModeAndGoesWithTheListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	listener := listenOn(t, path)
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	// root and its group: whoever may connect may reload and drain
	if want := fs.ModeSocket | 0o660; info.Mode() != want {
		t.Errorf("mode %v, want %v", info.Mode(), want)
	}
	if listener.Addr().String() != path {
		t.Errorf("address %s, want %s", listener.Addr(), path)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, filepath.Dir(path))
}

func TestAnAbandonedSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	abandoned, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	abandoned.SetUnlinkOnClose(false) // as after kill -9
	abandoned.Close()

	listenOn(t, path)
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	wantFiles(t, filepath.Dir(path), "lbd.sock")
}

func TestASocketThatAnswersIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	first := listenOn(t, path)
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) {
		t.Fatalf("error %v, want ErrInUse", err)
	}
	after, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the socket was replaced")
	}
	first.Close()
	listenOn(t, path)
}

func TestAFileThatIsNoSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil {
		t.Fatal("a file was taken for a socket")
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file is %q, %v", content, err)
	}
}

func TestAMissingDirectoryIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none", "lbd.sock")
	if _, err := Listen(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want that the directory does not exist", err)
	}
}

func TestClosingLeavesTheSocketOfASuccessorAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	first := listenOn(t, path)
	if err := os.Remove(path); err != nil { // somebody tidied up
		t.Fatal(err)
	}
	listenOn(t, path)
	first.Close()
	wantFiles(t, filepath.Dir(path), "lbd.sock")
}

func TestOfManyThatStartAtOnceOneListens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lbd.sock")
	const many = 8
	listeners := make([]net.Listener, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			if listener, err := Listen(path); err == nil {
				listeners[i] = listener
			} else if !errors.Is(err, ErrInUse) {
				t.Errorf("error %v, want ErrInUse", err)
			}
		})
	}
	wg.Wait()
	won := 0
	for _, listener := range listeners {
		if listener != nil {
			won++
			listener.Close()
		}
	}
	if won != 1 {
		t.Errorf("%d listen, want 1", won)
	}
}

func listenOn(t testing.TB, path string) net.Listener {
	t.Helper()
	listener, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// wantFiles says what a directory must hold, and nothing else.
func wantFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(want) {
		t.Errorf("%s holds %v, want %q", dir, entries, want)
		return
	}
	for i, entry := range entries {
		if entry.Name() != want[i] {
			t.Errorf("%s holds %s, want %s", dir, entry.Name(), want[i])
		}
	}
}
