package netconf

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// recordVersion changes when older programs would misread the file.
const recordVersion = 1

// A record is the state file: what Set added, in that order.
type record struct {
	path    string
	disk    []byte  // what the file holds; nil without one
	Version int     `json:"version"`
	Realm   string  `json:"realm"` // boot and network namespace that the rest is about
	Added   []entry `json:"added"`
}

// An entry is an item that is ours to remove.
type entry struct {
	item
	Index int    `json:"index"`         // of the interface: names are reused, indices are not
	Old   string `json:"old,omitempty"` // what a sysctl was before
}

// loadRecord reads the file. What a reboot, another namespace or a new interface of an old name
// has made untrue is dropped: the kernel forgot it as well.
func loadRecord(path string, now *snapshot) (*record, error) {
	rec := &record{path: path, Version: recordVersion}
	realm, err := currentRealm()
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		rec.Realm = realm
		return rec, nil
	case err != nil:
		return nil, fmt.Errorf("state: %w", err)
	}
	rec.disk = data
	if err := json.Unmarshal(data, rec); err != nil {
		return nil, fmt.Errorf("state %s: %w", path, err)
	}
	if rec.Version != recordVersion {
		return nil, fmt.Errorf("state %s: version %d, expected %d", path, rec.Version, recordVersion)
	}
	if rec.Realm != realm {
		rec.Realm, rec.Added = realm, nil
	}
	rec.Added = slices.DeleteFunc(rec.Added, func(e entry) bool { return now.named(e.Index) == "" })
	for i := range rec.Added {
		rec.Added[i].Interface = now.named(rec.Added[i].Index) // it may have been renamed
	}
	return rec, nil
}

// has says whether the item is ours.
func (r *record) has(it item) bool {
	return slices.ContainsFunc(r.Added, func(e entry) bool { return e.item == it })
}

// note writes down what is about to be added. What was noted before keeps its old value: that is
// the one from before us.
func (r *record) note(needs []need) error {
	for _, n := range needs {
		for _, e := range n.missing {
			if !r.has(e.item) {
				r.Added = append(r.Added, e)
			}
		}
	}
	return r.save()
}

// removeOthers removes what is ours and not wanted, last added first, and forgets it. What cannot
// be removed stays ours, for the next time.
func (r *record) removeOthers(ctx context.Context, now *snapshot, needs []need) error {
	want := wanted(needs)
	var errs []error
	for _, e := range slices.Backward(slices.Clone(r.Added)) {
		if want[e.item] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if now.mayHold(e.item) {
			if err := e.remove(); err != nil {
				errs = append(errs, fmt.Errorf("%s: remove: %w", e.item, err))
				continue
			}
		}
		r.Added = slices.DeleteFunc(r.Added, func(other entry) bool { return other.item == e.item })
	}
	return errors.Join(errs...)
}

// save makes the file equal to the record, in one step. Nothing to remember is no file.
func (r *record) save() error {
	if len(r.Added) == 0 {
		if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("state: %w", err)
		}
		r.disk = nil
		return nil
	}
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	data = append(data, '\n')
	if bytes.Equal(data, r.disk) {
		return nil
	}
	if err := replaceFile(r.path, data); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	r.disk = data
	return nil
}

// replaceFile writes a file that readers, and we after a crash, see either old or new. The new
// one is only readable by its owner.
func replaceFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

// currentRealm names this boot and network namespace like no other before or after.
func currentRealm() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("network namespace: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return "", fmt.Errorf("network namespace: %w", err)
	}
	return fmt.Sprintf("%s/%d", strings.TrimSpace(string(boot)), cookie), nil
}
