package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// format changes when older programs would misread the file.
const format = 1

// lockWait is for a predecessor that is about to end.
const lockWait = 2 * time.Second

// ErrCorrupt is the cause when the file is damaged.
var ErrCorrupt = errors.New("the file is damaged")

// Buckets of the file, and keys of the second one.
var (
	bucketEntries = []byte("entries") // key -> entry without its key
	bucketLocal   = []byte("local")   // of this node alone, never sent
	keyFormat     = []byte("format")
	keyDigest     = []byte("digest") // of all entries: bbolt has no checksums of its own on data
	keyLife       = []byte("life")
)

// A disk is the file of a store.
type disk struct {
	db *bolt.DB
}

// openDisk opens the file, makes it if there is none, and returns all that is in it.
func openDisk(path string) (*disk, map[string]Entry, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := create(path); err != nil {
			return nil, nil, fmt.Errorf("create: %w", err)
		}
	case err != nil:
		return nil, nil, err
	case info.Size() < 2*int64(os.Getpagesize()): // bbolt would fill an empty one
		return nil, nil, fmt.Errorf("%w: it has %d bytes", ErrCorrupt, info.Size())
	}
	var d disk
	var entries map[string]Entry
	err = guard(func() (err error) {
		if d.db, err = openBolt(path); err != nil {
			return err
		}
		if entries, err = d.load(); err != nil {
			return errors.Join(err, d.db.Close())
		}
		return nil
	})
	return &d, entries, err
}

// create makes the file under another name first: whoever is killed here leaves none, or a whole
// one (and maybe the other name). When another process was faster, its file stands.
func create(path string) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(path), filepath.Base(path)+".new-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temp := filepath.Join(dir, filepath.Base(path))
	db, err := openBolt(temp)
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		if _, err := tx.CreateBucket(bucketEntries); err != nil {
			return err
		}
		local, err := tx.CreateBucket(bucketLocal)
		if err != nil {
			return err
		}
		return errors.Join(putNumber(local, keyFormat, format), putNumber(local, keyDigest, 0))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync() // or the name may be lost with the power
}

func openBolt(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWait})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, errors.New("another process has it open")
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return db, err
}

// guard turns into an error what bbolt does when it meets a damaged file: panics, and faults when
// a mapped page is not there.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%w: %v", ErrCorrupt, reason)
		}
	}()
	return fn()
}

// load reads all and verifies it: the entries by their digest, then the pages by bbolt's rules,
// or a page that counts as free while it is in use would be overwritten later.
func (d *disk) load() (map[string]Entry, error) {
	entries := make(map[string]Entry)
	err := d.db.View(func(tx *bolt.Tx) error {
		all, local := tx.Bucket(bucketEntries), tx.Bucket(bucketLocal)
		if all == nil || local == nil {
			return fmt.Errorf("%w: it holds something else", ErrCorrupt)
		}
		if f := number(local, keyFormat); f != format {
			return fmt.Errorf("format %d, expected %d", f, format)
		}
		var digest uint64
		err := all.ForEach(func(key, body []byte) error {
			e, err := decodeBody(key, body)
			if err != nil {
				return err
			}
			entries[e.Key] = e
			digest ^= e.hash()
			return nil
		})
		if err != nil {
			return err
		}
		if digest != number(local, keyDigest) {
			return fmt.Errorf("%w: checksum of the entries", ErrCorrupt)
		}
		return checkPages(tx)
	})
	return entries, err
}

func checkPages(tx *bolt.Tx) error {
	var first error
	for err := range tx.Check() { // to the end: it blocks until it is heard
		if first == nil {
			first = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	return first
}

// put writes entries; when it returns nil, they are on the disk for good. The old digest is the
// file's own: after an error nobody knows whether a write came to the disk.
func (d *disk) put(entries []Entry) error {
	return d.db.Update(func(tx *bolt.Tx) error {
		all, local := tx.Bucket(bucketEntries), tx.Bucket(bucketLocal)
		digest := number(local, keyDigest)
		for _, e := range entries {
			key := []byte(e.Key)
			if body := all.Get(key); body != nil {
				old, err := decodeBody(key, body)
				if err != nil {
					return err
				}
				digest ^= old.hash()
			}
			digest ^= e.hash()
			if err := all.Put(key, appendBody(nil, e)); err != nil {
				return err
			}
		}
		return putNumber(local, keyDigest, digest)
	})
}

// newLife writes down and returns the next number.
func (d *disk) newLife(atLeast uint64) (life uint64, err error) {
	err = d.db.Update(func(tx *bolt.Tx) error {
		local := tx.Bucket(bucketLocal)
		life = max(number(local, keyLife)+1, atLeast)
		return putNumber(local, keyLife, life)
	})
	return life, err
}

func decodeBody(key, body []byte) (Entry, error) {
	r := reader{rest: body}
	e := r.body(string(key))
	if r.err == nil && len(r.rest) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.rest))
	}
	if r.err != nil {
		return e, fmt.Errorf("%w: entry %q: %w", ErrCorrupt, key, r.err)
	}
	return e, nil
}

// number returns 0 for what is not there.
func number(b *bolt.Bucket, key []byte) uint64 {
	if v := b.Get(key); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func putNumber(b *bolt.Bucket, key []byte, n uint64) error {
	return b.Put(key, binary.BigEndian.AppendUint64(nil, n))
}
