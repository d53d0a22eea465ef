package control

import (
	"errors"
	"net/http"

	"github.com/lbctl/lbctl/internal/config"
)

// An Error is what the daemon answers instead of a result.
type Error struct {
	Code    int           `json:"-"` // of HTTP
	Message string        `json:"error"`
	Details config.Errors `json:"details,omitempty"` // of a configuration that is invalid
}

// Error returns the message, then one line for each detail.
func (e *Error) Error() string {
	if len(e.Details) == 0 {
		return e.Message
	}
	return e.Message + "\n" + e.Details.Error()
}

// errorOf finds the answer for what a Daemon returned.
func errorOf(err error) *Error {
	if answer, ok := errors.AsType[*Error](err); ok {
		return answer
	}
	if details, ok := errors.AsType[config.Errors](err); ok {
		return &Error{Code: http.StatusUnprocessableEntity, Message: "the configuration is invalid", Details: details}
	}
	return &Error{Code: http.StatusInternalServerError, Message: err.Error()}
}
