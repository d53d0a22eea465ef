package config

import (
	"slices"
	"time"
)

var hookEvents = []string{string(HookNode), string(HookService), string(HookVIP), string(HookDrain)}

func (r *reader) hooks(c *Config, v value) {
	items, _ := r.items(v, false)
	if len(items) > maxHooks {
		r.fail(v, "", "%d hooks are more than %d", len(items), maxHooks)
		return
	}
	for _, item := range items {
		f, ok := r.fields(item, "command", "on", "timeout", "user")
		if !ok {
			continue
		}
		h := Hook{
			Command: r.command(at(f["command"], item)),
			On:      r.hookEvents(f["on"]),
			Timeout: r.duration(f["timeout"], 100*time.Millisecond, 10*time.Minute, defaultHookTimeout),
			User:    defaultHookUser,
		}
		if f["user"].given() {
			h.User = r.name(f["user"], "-_", 32)
		}
		if slices.ContainsFunc(c.Hooks, func(other Hook) bool { return slices.Equal(other.Command, h.Command) }) && h.Command != nil {
			r.fail(f["command"], "", "another hook has this command; give it all of its events there")
		}
		c.Hooks = append(c.Hooks, h)
	}
}

// hookEvents are all of them unless some are named.
func (r *reader) hookEvents(v value) []HookEvent {
	items, ok := r.items(v, true)
	if !ok {
		return nil
	}
	if v.given() && len(items) == 0 {
		r.fail(v, "leave it out to be told everything", "names no event")
	}
	var words []string
	for _, item := range items {
		switch word := r.word(item, "", hookEvents...); {
		case word == "" && item.given():
		case word == "":
			r.fail(item, "", "missing")
		case slices.Contains(words, word):
			r.fail(item, "", "%q is given twice", word)
		default:
			words = append(words, word)
		}
	}
	if !v.given() {
		words = hookEvents
	}
	var events []HookEvent
	for _, word := range hookEvents {
		if slices.Contains(words, word) {
			events = append(events, HookEvent(word))
		}
	}
	return events
}

// command reads a program and its arguments. There is no shell, so the path is absolute.
func (r *reader) command(v value) []string {
	items, ok := r.some(v, "program", "arguments", maxArguments)
	if !ok {
		return nil
	}
	command := []string{r.absolute(items[0])}
	for _, item := range items[1:] {
		s, _ := r.argument(item)
		command = append(command, s)
	}
	if command[0] == "" {
		return nil
	}
	return command
}

func (r *reader) argument(v value) (string, bool) {
	s, ok := r.required(v)
	if ok && len(s) > maxText {
		r.fail(v, "", "%d bytes are more than %d", len(s), maxText)
		return "", false
	}
	return s, ok
}
