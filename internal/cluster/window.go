package cluster

// windowSize is how far messages may overtake each other. Each travels in a TCP connection of its
// own, those of a box one after the other, so that two boxes would have to be worlds apart.
const windowSize = 256

// A window tells the sequence numbers that were seen from those that were not, as RFC 6479 does.
// The zero value has seen nothing; numbers start at 1.
type window struct {
	highest uint64
	seen    [windowSize / 64]uint64 // ring of bits, for (highest-windowSize, highest]
}

// take notes a number and says whether it is new. What is older than the window is not new.
func (w *window) take(n uint64) bool {
	switch {
	case n == 0 || n <= w.highest && w.highest-n >= windowSize:
		return false
	case n > w.highest:
		for i := range min(n-w.highest, windowSize) {
			w.clear(n - i)
		}
		w.highest = n
	}
	word, bit := &w.seen[n/64%uint64(len(w.seen))], uint64(1)<<(n%64)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

func (w *window) clear(n uint64) { w.seen[n/64%uint64(len(w.seen))] &^= 1 << (n % 64) }
