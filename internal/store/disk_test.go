package store_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lbctl/lbctl/internal/store"
)

// writerEnv makes the test binary a process that writes to the store in it until it is killed.
const writerEnv = "LBCTL_TEST_STORE_WRITER"

const writerKeys = 20

func TestMain(m *testing.M) {
	path := os.Getenv(writerEnv)
	if path == "" {
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, writeForEver(path))
	os.Exit(1)
}

// writeForEver writes ascending numbers to a few keys, and says each number when it is acknowledged.
func writeForEver(path string) error {
	s, err := store.Open(path, "n1")
	if err != nil {
		return err
	}
	life, err := s.NewLife()
	if err != nil {
		return err
	}
	fmt.Println("life", life)
	for n := highest(s) + 1; ; n++ {
		// Of changing sizes, so that pages split, merge and overflow.
		value := fmt.Sprintf("%d %s", n, strings.Repeat("x", int(n*37%4000)))
		if err := s.Set(fmt.Sprintf("k%d", n%writerKeys), []byte(value)); err != nil {
			return err
		}
		fmt.Println("set", n)
	}
}

// highest returns the highest number that was written.
func highest(s *store.Store) (n uint64) {
	for _, e := range s.All("k") {
		text, _, _ := strings.Cut(string(e.Value), " ")
		if m, err := strconv.ParseUint(text, 10, 64); err == nil {
			n = max(n, m)
		}
	}
	return n
}

// killedWriter runs the writer for a while and returns the last numbers it acknowledged.
func killedWriter(t *testing.T, path string, after time.Duration) (life, n uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(after, func() { _ = cmd.Process.Kill() }).Stop()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		what, number, _ := strings.Cut(lines.Text(), " ")
		m, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue // the pipe ends in the middle of a line
		}
		if what == "life" {
			life = m
		} else {
			n = m
		}
	}
	if err := cmd.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the writer ended by itself: %v, %s", err, stderr.String())
	}
	return life, n
}

func TestAKilledWriterLosesNothingItAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var lastLife, last uint64
	writes := 0
	for round := range 60 {
		// The first are killed while they make the file, the others at any moment.
		life, n := killedWriter(t, path, time.Duration(rand.IntN(5+2*round))*time.Millisecond)
		if life != 0 && life <= lastLife {
			t.Fatalf("round %d: life %d after %d", round, life, lastLife)
		}
		lastLife = max(lastLife, life)
		s, err := store.Open(path, "n1")
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		found := highest(s)
		// It may have written one more than it could tell.
		if wanted := max(last, n); found < wanted || found > wanted+1 {
			t.Fatalf("round %d: %d is the last write found, %d was acknowledged", round, found, wanted)
		}
		if want := min(int(found), writerKeys); s.Stats().Keys != want {
			t.Fatalf("round %d: %d keys, want %d", round, s.Stats().Keys, want)
		}
		writes += int(found - last)
		last = found
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if writes < 60 {
		t.Fatalf("%d writes in 60 rounds prove nothing", writes)
	}
	t.Logf("60 kills, %d writes", writes)
}

func TestOneProcessAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where waiting for the lock takes no time
		path := filepath.Join(t.TempDir(), "state.db")
		open(t, path, "n1")
		if _, err := store.Open(path, "n1"); err == nil || err.Error() != "store "+path+": another process has it open" {
			t.Errorf("opened twice: %v", err)
		}
	})
}

func TestWithoutADirectoryThereIsNoStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "state.db")
	if _, err := store.Open(path, "n1"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("error: %v", err)
	}
}

// wholeFile returns the bytes of a store with some entries of all sizes.
func wholeFile(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := store.Open(path, "n1")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		set(t, s, fmt.Sprintf("k%02d", i), strings.Repeat("v", i*100))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// freeRoot puts the root of all into the list of free pages. What is read is right, but the next
// write would go over it. The layout is that of bbolt's internal/common/{page,meta}.go.
func freeRoot(data []byte) []byte {
	const (
		header                      = 16
		root, freelist, transaction = header + 16, header + 32, header + 48
	)
	page, number := uint64(os.Getpagesize()), binary.NativeEndian.Uint64
	head := data[:page]
	if second := data[page : 2*page]; number(second[transaction:]) > number(head[transaction:]) {
		head = second
	}
	first := number(head[freelist:])*page + header
	binary.NativeEndian.PutUint64(data[first:], number(head[root:]))
	return data
}

func TestADamagedFileIsToldAndLeftAlone(t *testing.T) {
	whole := wholeFile(t)
	page := os.Getpagesize()
	for _, c := range []struct {
		name   string
		damage func(data []byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"a text", func([]byte) []byte { return []byte("# not a database\n") }},
		{"first page only", func(b []byte) []byte { return b[:page] }},
		{"half", func(b []byte) []byte { return b[:len(b)/2] }},
		{"zeros", func(b []byte) []byte { clear(b); return b }},
		{"both heads", func(b []byte) []byte { clear(b[:2*page]); return b }},
		{"all but the heads", func(b []byte) []byte { clear(b[2*page:]); return b }},
		{"a page in use counts as free", freeRoot},
		{"one value", func(b []byte) []byte {
			// In all copies: older ones are on free pages.
			return []byte(strings.ReplaceAll(string(b), "vvvvvvvv", "vvvvVvvv"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.db")
			damaged := c.damage([]byte(string(whole)))
			if err := os.WriteFile(path, damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(path, "n1")
			if err == nil {
				t.Errorf("opened with %d keys", s.Stats().Keys)
				_ = s.Close()
			}
			if !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("error: %v", err)
			} else if !strings.HasPrefix(err.Error(), "store "+path+": the file is damaged") || !strings.Contains(err.Error(), "; move it away and start again") {
				t.Errorf("error does not help: %v", err)
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(after) != string(damaged) {
				t.Error("the file was changed")
			}
		})
	}
}

func TestNoFlippedByteChangesWhatIsReadOrPanics(t *testing.T) {
	whole := wholeFile(t)
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(path, "n1")
	if err != nil {
		t.Fatal(err)
	}
	want := s.Digest()
	before := values(s, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	told, same, previous := 0, 0, 0
	for range 1500 {
		at := r.IntN(len(whole))
		if r.IntN(4) == 0 {
			at = r.IntN(2)*os.Getpagesize() + r.IntN(100) // one of the two heads
		}
		data := []byte(string(whole))
		data[at] ^= byte(1 + r.IntN(255))
		path := filepath.Join(t.TempDir(), "state.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(path, "n1")
		switch {
		case err != nil:
			told++
			continue
		case s.Digest() == want:
			same++
		case len(values(s, "")) == len(before)-1 && at < 2*os.Getpagesize():
			previous++ // a head that was torn by a power cut looks the same: the one before is used
		default:
			t.Errorf("byte %d: other content is read without an error", at)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d told, %d made no difference, %d fell back to the last but one write", told, same, previous)
}

func BenchmarkSet(b *testing.B) {
	s := fresh(b, "n1")
	for b.Loop() {
		set(b, s, "node/n1/drain", "1")
	}
}
