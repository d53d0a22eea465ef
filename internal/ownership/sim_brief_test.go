package ownership

import (
	"fmt"
	"strings"
)

// brief writes an event in one short line.
type brief struct{ event Event }

func (b brief) String() string {
	r, ok := b.event.(Received)
	if !ok {
		return strings.TrimPrefix(fmt.Sprintf("%T%+v", b.event, b.event), "ownership.")
	}
	head := fmt.Sprintf("from %s %s ", r.From, strings.TrimPrefix(fmt.Sprintf("%T", r.Message), "ownership."))
	s, ok := r.Message.(State)
	if !ok {
		return head + fmt.Sprintf("%+v", r.Message)
	}
	head += fmt.Sprintf("%d.%d knows %x:", s.Life, s.Number, s.Knowledge>>48)
	for i := range s.Records {
		head += " " + s.Records[i].brief()
	}
	for _, l := range s.Absences {
		head += fmt.Sprintf(" %+v", l)
	}
	return head
}

func (r *Record) brief() string {
	text := fmt.Sprintf("%s/%d.%d %s", r.Name, r.Life, r.Version, r.describe())
	if r.Lineage.Life != 0 {
		text += fmt.Sprintf(" of %d", r.Lineage.Life)
	}
	return text
}
