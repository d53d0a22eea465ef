package store

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// MaxAhead is how far in the future an entry may lie to be merged. A clock that is a year ahead
// would else write what nobody could overwrite for a year: every later write would have to carry a
// stamp above it, and hybrid clocks would spread that year to all nodes. Clocks kept by NTP differ
// by milliseconds; a minute leaves room for those that nobody keeps.
const MaxAhead = time.Minute

// A SkewError says that entries were refused because they lie in the future. They are taken when
// their time has come, or at once when the clock that is wrong is set.
type SkewError struct {
	Entry   Entry         // the one that is farthest ahead
	Ahead   time.Duration // of this machine's clock
	Refused int           // how many
}

// Error names the writer, whose clock is to be looked at.
func (e *SkewError) Error() string {
	return fmt.Sprintf("%d entries refused: key %s was written by node %s %s ahead of this machine's clock: one of the two clocks is wrong",
		e.Refused, e.Entry.Key, e.Entry.Node, e.Ahead.Round(time.Second))
}

// Merge takes what another node has and returns what was news, in ascending order of keys; it is on
// the disk then. Giving it the same again, or in another order, makes no difference.
//
// Entries more than [MaxAhead] in the future are left out, counted and told by a [*SkewError]; the
// others are merged all the same. After any other error nothing is merged.
func (s *Store) Merge(entries []Entry) (changed []Entry, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	news, skew, err := s.news(entries)
	if err != nil {
		return nil, fmt.Errorf("merge: %w", err)
	}
	if len(news) > 0 {
		if err := s.put(news); err != nil {
			return nil, fmt.Errorf("merge: %w", err)
		}
	}
	if skew != nil {
		s.mu.Lock()
		s.refused += uint64(skew.Refused)
		s.mu.Unlock()
		return news, fmt.Errorf("merge: %w", skew)
	}
	return news, nil
}

// news picks from entries what beats what is known, once for each key; s.writing is held.
func (s *Store) news(entries []Entry) (news []Entry, skew *SkewError, err error) {
	now := time.Now()
	best := make(map[string]Entry)
	keys := len(s.entries)
	for _, e := range entries {
		if err := e.check(); err != nil {
			return nil, nil, err
		}
		if ahead := e.Stamp.ahead(now); ahead > MaxAhead {
			skew = skew.add(e, ahead)
			continue
		}
		old, known := best[e.Key]
		if !known {
			old, known = s.entries[e.Key]
		}
		if known && e.compare(old) <= 0 {
			continue
		}
		if !known {
			if keys++; keys > maxMerged {
				return nil, nil, fmt.Errorf("key %s: %w: there are %d", e.Key, ErrFull, maxMerged)
			}
		}
		best[e.Key] = e
	}
	return slices.SortedFunc(maps.Values(best), byKey), skew, nil
}

// add works on nil as well.
func (e *SkewError) add(entry Entry, ahead time.Duration) *SkewError {
	if e == nil {
		e = &SkewError{}
	}
	e.Refused++
	if ahead > e.Ahead {
		e.Entry, e.Ahead = entry, ahead
	}
	return e
}
