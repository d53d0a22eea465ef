package probe

// A queue is a heap of entries for container/heap: the one that is due first is first.
type queue []*entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }

// Push adds an entry at the end.
func (q *queue) Push(x any) { *q = append(*q, x.(*entry)) }

// Pop takes the last entry off.
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
