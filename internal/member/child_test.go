package member_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lbctl/lbctl/internal/cluster"
	"github.com/lbctl/lbctl/internal/datapath"
	"github.com/lbctl/lbctl/internal/desired"
	"github.com/lbctl/lbctl/internal/health"
	"github.com/lbctl/lbctl/internal/heartbeat"
	"github.com/lbctl/lbctl/internal/lb"
	"github.com/lbctl/lbctl/internal/member"
	"github.com/lbctl/lbctl/internal/nettest"
	"github.com/lbctl/lbctl/internal/ownership"
	"github.com/lbctl/lbctl/internal/store"
)

func TestMain(m *testing.M) { nettest.Main(m, runChild) }

// A child is a member in a process of its own. Its kernel only notes what it is told.
type child struct {
	Name      string
	Nodes     []string // all of the configuration
	Bind      netip.AddrPort
	Peers     []netip.AddrPort
	Key       cluster.Key
	Dir       string // outlives the process
	Policy    ownership.Policy
	Witnesses []netip.Addr
	Beat      time.Duration
}

// A line is what a child writes.
type line struct {
	At       time.Duration     `json:",omitzero"`  // of datapath.Monotonic, which all children share
	Kernel   map[string]tables `json:",omitempty"` // by domain: what new flows find
	Lease    time.Duration     `json:",omitzero"`  // until when they do
	Happened string            `json:",omitempty"`
	Answer   string            `json:",omitempty"` // to a command
	Life     uint64            `json:",omitempty"` // with the answer "status"
	Members  []string          `json:",omitempty"` // with the answer "status"
	Hearers  []string          `json:",omitempty"` // with the answer "status": members that hear this one
	Votes    string            `json:",omitempty"` // with the answer "votes"
}

// tables are the buckets that a node takes and those that it sends on.
type tables struct{ Accept, Delegate ownership.Set }

// Times between two heartbeats.
const (
	normal = 40 * time.Millisecond  // of a configuration that says nothing of them
	calm   = 200 * time.Millisecond // no lease ends because the machine is busy
)

const absence = 10 * time.Second

// The times that a configuration derives from Beat.
func (c *child) tick() time.Duration      { return c.Beat / 4 }
func (c *child) heard() time.Duration     { return c.Beat * 5 / 2 }
func (c *child) lease() time.Duration     { return c.Beat * 4 }
func (c *child) deadAfter() time.Duration { return c.Beat * 10 }

// A kernel has the lease of a node, also between two of its processes.
type kernel struct {
	file string
	out  *lines

	mu    sync.Mutex
	lease time.Duration
}

// lines are written one at a time.
type lines struct {
	mu  sync.Mutex
	enc *json.Encoder
}

func (l *lines) write(line line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.enc.Encode(line) // nobody reads any more
}

const ended = time.Duration(1)

func openKernel(file string, out *lines) (*kernel, error) {
	k := &kernel{file: file, out: out, lease: ended}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	until, err := strconv.ParseInt(string(text), 10, 64)
	k.lease = time.Duration(until)
	return k, err
}

// renew does what the kernel does: a lease that ended comes back with another life alone.
func (k *kernel) renew(until time.Duration, anew bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := datapath.Monotonic()
	switch {
	case until != datapath.NoLease && until <= ended:
		return datapath.ErrLapsed
	case !anew && k.lease != datapath.NoLease && now >= k.lease:
		return datapath.ErrLapsed
	}
	k.lease = until
	shown := until
	if until == datapath.NoLease {
		shown = ownership.Forever
	}
	k.out.write(line{At: now, Lease: shown})
	return nil
}

func (k *kernel) apply(_ context.Context, agreed *desired.Agreement) error {
	self := int16(-2)
	for _, n := range agreed.Nodes {
		if n.Local {
			self = int16(n.Index)
		}
	}
	now := make(map[string]tables)
	for domain, table := range agreed.Tables {
		var t tables
		for b, owner := range table.Owners {
			var mark lb.Mark
			if table.Marks != nil {
				mark = table.Marks[b]
			}
			switch {
			case mark&lb.MarkDelegate != 0:
				t.Delegate.Add(b)
			case owner == self && mark&lb.MarkWaiting == 0:
				t.Accept.Add(b)
			}
		}
		now[domain] = t
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.out.write(line{At: datapath.Monotonic(), Kernel: now})
	return nil
}

// save keeps the lease for the next process.
func (k *kernel) save() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return os.WriteFile(k.file, strconv.AppendInt(nil, int64(k.lease), 10), 0o600)
}

// hurry puts this process, which leads a session of its own, before other programs, as lbd does: a
// lease that is not renewed in time because others compute is over.
func hurry() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, id, urgent); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	err = os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(urgent)), 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // this kernel has no groups
	}
	return err
}

const urgent = -10

func runChild(text string) error {
	if err := hurry(); err != nil {
		return err
	}
	var me child
	if err := json.Unmarshal([]byte(text), &me); err != nil {
		return err
	}
	out := &lines{enc: json.NewEncoder(os.Stdout)}
	k, err := openKernel(filepath.Join(me.Dir, "lease"), out)
	if err != nil {
		return err
	}
	s, err := store.Open(filepath.Join(me.Dir, "cluster.db"), me.Name)
	if err != nil {
		return err
	}
	defer s.Close()
	opts, err := me.options(s)
	if err != nil {
		return err
	}
	opts.Apply = k.apply
	opts.Lease = func(until time.Duration) error { return k.renew(until, false) }
	opts.NewLife = func(until time.Duration) error { return k.renew(until, true) }
	opts.Happened = func(h ownership.Happening) {
		out.write(line{At: datapath.Monotonic(), Happened: strings.TrimSpace(fmt.Sprintf("%s %s %s", h.Kind, h.Node, h.Reason))})
	}
	m, err := member.New(opts)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			answer := command(ctx, m, s, k, in.Text())
			out.write(answer)
			if answer.Answer == "absent" || answer.Answer == "left" {
				return
			}
		}
	})
	err = m.Run(ctx)
	reader.Wait()
	return err
}

func (c *child) options(s *store.Store) (member.Options, error) {
	life, err := s.NewLife()
	if err != nil {
		return member.Options{}, err
	}
	machine := ownership.DefaultConfig(c.Name)
	machine.Expected, machine.Policy = c.Nodes, c.Policy
	machine.Meta = member.Meta{Addresses: []netip.Addr{c.Bind.Addr()}}.Encode()
	machine.Tick, machine.HintTime, machine.LeaseTime = c.tick(), c.heard(), c.lease()
	machine.DeadAfter, machine.BootTimeout, machine.FlapWindow = c.deadAfter(), absence, time.Second
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	return member.Options{
		Machine: machine,
		Cluster: cluster.Options{
			Cluster: "prod", Node: c.Name, Bind: c.Bind, Peers: func() []netip.AddrPort { return c.Peers },
			Keys: []cluster.Key{c.Key}, StateDir: c.Dir, Life: life, Log: log,
		},
		Heartbeats: []heartbeat.Options{{
			Interface: "eth0", Cluster: "prod", Node: c.Name, Life: life, Keys: [][]byte{c.Key[:]},
			Interval: c.Beat, DeadAfter: c.deadAfter(), Hint: c.heard(),
		}},
		Witnesses: c.Witnesses,
		Store:     s,
		Snapshot:  filepath.Join(c.Dir, "absence"),
		Wishes: member.Wishes{
			Weight: 1, Ready: true, Domains: map[string]health.Service{"": {}, "nodes": {}},
		},
		Log: log,
	}, nil
}

// show says what each node found out.
func show(all map[string]member.Votes) string {
	var lines []string
	for node, votes := range all {
		for about, vote := range votes {
			lines = append(lines, fmt.Sprintf("%s %s/%s %t", node, about.Service, about.Backend, vote.Healthy))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, ", ")
}

// command does what the test says.
func command(ctx context.Context, m *member.Member, s *store.Store, k *kernel, text string) line {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	verb, name, _ := strings.Cut(text, " ")
	answer := line{Answer: "done"}
	var err error
	switch verb {
	case "drain", "undrain":
		err = s.SetDrain(name, verb == "drain")
	case "absence":
		answer.Answer = "absent"
		if err = m.Absence(ctx, absence); err == nil {
			err = k.save()
		}
	case "leave":
		answer.Answer = "left"
		err = m.Leave(ctx)
	case "vote":
		m.Vote(member.Votes{{Service: "web", Backend: "b1"}: {Healthy: name == "up", Percent: 100}, {Service: "dns", Backend: "b2"}: health.Fine})
	case "votes":
		var all map[string]member.Votes
		all, err = m.VotesByNode(ctx)
		answer.Answer, answer.Votes = "votes", show(all)
	case "status":
		var status member.Status
		status, err = m.Status(ctx)
		answer.Answer, answer.Life = "status", status.Machine.Life
		for _, n := range status.Machine.Members {
			if !n.Dead {
				answer.Members = append(answer.Members, n.Name)
				if n.Hears {
					answer.Hearers = append(answer.Hearers, n.Name)
				}
			}
		}
	default:
		err = errors.New("unknown")
	}
	if err != nil {
		answer = line{Answer: text + ": " + err.Error()}
	}
	return answer
}
