package starlib

import (
	"errors"
	"fmt"

	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

type secretArgs struct{ name string }

func secretBuiltins() []*Builtin {
	return []*Builtin{
		define(Builtin{Name: "secret", Returns: "Secret",
			Doc: "An environment variable of yours, to give to a job: env = {\"HF_TOKEN\": secret(\"HF_TOKEN\")}. Its value shows nowhere."},
			secretArgs{}, []argument[secretArgs]{arg("name", "of the variable on this machine", func(a *secretArgs) any { return &a.name }).required()},
			func(c *call, a *secretArgs) (starlark.Value, error) {
				if err := c.session.Secret(a.name); err != nil {
					return nil, err
				}
				return &secretValue{name: a.name}, nil
			}),
	}
}

// A secretValue is what secret() returns. It has no value: the session knows that.
type secretValue struct {
	opaque
	name string
}

func (s *secretValue) Type() string          { return "Secret" }
func (s *secretValue) String() string        { return "***" }
func (s *secretValue) Hash() (uint32, error) { return starlark.String(s.name).Hash() }

// environment is the slot of env: the variables of a job, of which some are secrets.
type environment struct{ plain, secrets *map[string]string }

func (e environment) slot() slot {
	s := slotOf(e.plain)
	s.set = func(path string, v starlark.Value) error {
		all, err := toMap(path, v, func(path string, v starlark.Value) (envValue, error) {
			if s, ok := v.(*secretValue); ok {
				return envValue{s.name, true}, nil
			}
			text, err := toText(path, v)
			return envValue{text, false}, err
		})
		if err != nil {
			return err
		}
		*e.plain, *e.secrets = make(map[string]string), make(map[string]string)
		for name, v := range all {
			if v.secret {
				(*e.secrets)[name] = v.text
			} else {
				(*e.plain)[name] = v.text
			}
		}
		return nil
	}
	return s
}

// An envValue is a value of an environment, or the name of a secret.
type envValue struct {
	text   string
	secret bool
}

// noSecret is the error of a secret where a text belongs.
func noSecret(path string) error {
	err := errors.New("a Secret is not for showing")
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return &runtime.Error{Hint: "give it to a job through env = {...}", Err: err}
}
