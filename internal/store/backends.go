package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lbctl/lbctl/internal/lb"
)

// A BackendName says which backend is meant. Neither part holds a slash.
type BackendName struct {
	Service string // of the configuration
	Backend string // unique in its service
}

// String returns the two with a slash between them, as people write it.
func (n BackendName) String() string { return n.Service + "/" + n.Backend }

// A BackendAdmin is what people decided about a backend, for all directors.
type BackendAdmin struct {
	Drain   bool // takes no new flows; those it has stay
	Disable bool // takes nothing at all, as if it were down
	Weight  *int // 0..lb.MaxWeight instead of the configured one; nil for the configured one
	MaxConn *int // the same of connections at the same time; 0: any number
}

// Each decision has a key of its own here, too: backend/SERVICE/BACKEND/WHAT, the words of which are
// those about nodes.
const (
	backendPrefix = "backend/"
	adminDisable  = "disable" // 1
	adminMaxConn  = "maxconn" // decimal
)

// SetBackendDrain drains a backend or ends that.
func (s *Store) SetBackendDrain(b BackendName, drain bool) error {
	return s.setBackend(b, adminDrain, drain, "1")
}

// SetBackendDisable disables a backend or enables it again.
func (s *Store) SetBackendDisable(b BackendName, disable bool) error {
	return s.setBackend(b, adminDisable, disable, "1")
}

// SetBackendWeight sets a backend's weight by hand; nil gives it back to the configuration.
func (s *Store) SetBackendWeight(b BackendName, weight *int) error {
	if weight == nil {
		return s.setBackend(b, adminWeight, false, "")
	}
	if *weight < 0 || *weight > lb.MaxWeight {
		return fmt.Errorf("store: backend %s: weight %d is not in 0..%d", b, *weight, lb.MaxWeight)
	}
	return s.setBackend(b, adminWeight, true, strconv.Itoa(*weight))
}

// SetBackendMaxConn sets how many connections a backend may have, 0 for any number; nil gives it back to
// the configuration.
func (s *Store) SetBackendMaxConn(b BackendName, most *int) error {
	if most == nil {
		return s.setBackend(b, adminMaxConn, false, "")
	}
	if *most < 0 || *most > lb.MaxConn {
		return fmt.Errorf("store: backend %s: maxconn %d is not in 0..%d", b, *most, lb.MaxConn)
	}
	return s.setBackend(b, adminMaxConn, true, strconv.Itoa(*most))
}

func (s *Store) setBackend(b BackendName, what string, set bool, value string) error {
	if b.Service == "" || b.Backend == "" || strings.Contains(b.Service+b.Backend, "/") {
		return fmt.Errorf("store: backend %q: %w", b, errBackendName)
	}
	key := backendPrefix + b.String() + "/" + what
	if !set {
		return s.Delete(key)
	}
	return s.Set(key, []byte(value))
}

var errBackendName = errors.New("want SERVICE/BACKEND")

// BackendAdmins returns what was decided about backends. Those that nobody decided anything about are
// not in it, some that the configuration does not name any more may be; what only a newer version
// understands is left out.
func (s *Store) BackendAdmins() map[BackendName]BackendAdmin {
	admins := make(map[BackendName]BackendAdmin)
	for _, e := range s.All(backendPrefix) {
		words := strings.Split(strings.TrimPrefix(e.Key, backendPrefix), "/")
		if len(words) != 3 {
			continue
		}
		name := BackendName{words[0], words[1]}
		admin := admins[name]
		if admin.read(words[2], string(e.Value)) {
			admins[name] = admin
		}
	}
	return admins
}

// read takes one decision and says whether it understood it.
func (a *BackendAdmin) read(what, value string) bool {
	n, err := strconv.Atoi(value)
	switch {
	case err != nil:
		return false
	case what == adminDrain:
		a.Drain = true
	case what == adminDisable:
		a.Disable = true
	case what == adminWeight && n >= 0 && n <= lb.MaxWeight:
		a.Weight = &n
	case what == adminMaxConn && n >= 0 && n <= lb.MaxConn:
		a.MaxConn = &n
	default:
		return false
	}
	return true
}
