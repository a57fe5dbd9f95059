package starlib

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	startime "go.starlark.net/lib/time"
	"go.starlark.net/starlark"

	"github.com/aifb/aifb/runtime"
)

// A slot is where the value of a parameter goes. It knows the type that recipes are told, takes a Starlark value, and
// shows what is in it as a recipe would write it. The path is what an error calls the value, such as `env["A"]`.
type slot struct {
	typ  string
	set  func(path string, v starlark.Value) error
	show func() string
}

// A slotter is a place with a slot of its own making.
type slotter interface{ slot() slot }

// slotOf returns the slot for what p points to. It is the one place that says which Go type is which type of a recipe.
func slotOf(p any) slot {
	switch p := p.(type) {
	case slotter:
		return p.slot()
	case *string:
		return newSlot("str", p, toString, showString)
	case *int:
		return newSlot("int", p, toInt, strconv.Itoa)
	case *float64:
		return newSlot("float", p, toFloat, func(f float64) string { return starlark.Float(f).String() })
	case *bool:
		return newSlot("bool", p, toBool, func(b bool) string { return starlark.Bool(b).String() })
	case *time.Duration:
		return newSlot("duration", p, toLimit, showDuration)
	case *runtime.Bytes:
		return newSlot("memory", p, toBytes, noneOr(runtime.Bytes.String))
	case *runtime.Port:
		return newSlot("port", p, toPort, noneOr(func(p runtime.Port) string { return strconv.Itoa(max(int(p), 0)) }))
	case *runtime.Ready:
		return newSlot("Ready", p, toReady, noneOr(runtime.Ready.String))
	case *[]runtime.Metric:
		return newSlot("Metric or list", p, toMetrics, func([]runtime.Metric) string { return "[]" })
	case *[]string:
		return newSlot("list of str", p, toStrings, func([]string) string { return "[]" })
	case *map[string]string:
		return newSlot("dict", p, toTexts, func(map[string]string) string { return "{}" })
	case *map[string][]string:
		return newSlot("dict", p, toSelection, func(map[string][]string) string { return "{}" })
	case *[]*runtime.Handle:
		return newSlot("Service, Client, Job or list", p, toHandles, func([]*runtime.Handle) string { return "[]" })
	case *starlark.Value:
		return newSlot("any", p, func(_ string, v starlark.Value) (starlark.Value, error) { return v, nil }, showValue)
	case *starlark.Callable:
		return newSlot("function", p, toCallable, func(starlark.Callable) string { return "None" })
	case *starlark.Tuple:
		return newSlot("any", p, toTuple, func(starlark.Tuple) string { return "" })
	case *starlark.Iterable:
		return newSlot("iterable", p, toIterable, func(starlark.Iterable) string { return "" })
	}
	panic(fmt.Sprintf("starlib: no slot for %T", p))
}

func newSlot[T any](typ string, p *T, convert func(string, starlark.Value) (T, error), show func(T) string) slot {
	set := func(path string, v starlark.Value) error {
		t, err := convert(path, v)
		if err == nil {
			*p = t
		}
		return err
	}
	return slot{typ, set, func() string { return show(*p) }}
}

// noneOr shows the zero value as None.
func noneOr[T comparable](show func(T) string) func(T) string {
	return func(t T) string {
		if t == *new(T) {
			return "None"
		}
		return show(t)
	}
}

func showString(s string) string { return starlark.String(s).String() }

func showValue(v starlark.Value) string {
	if v == nil {
		return "None"
	}
	return v.String()
}

// showDuration writes a duration without the units that are zero: "10m", not 10m0s.
func showDuration(d time.Duration) string {
	if d == 0 {
		return "None"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return strconv.Quote(s)
}

// typeOf is the type of a value as recipes know it.
func typeOf(v starlark.Value) string {
	if t := v.Type(); t != "string" {
		return t
	}
	return "str"
}

func wrongType(path string, v starlark.Value, want string) error {
	if _, ok := v.(*secretValue); ok {
		return noSecret(path)
	}
	err := fmt.Errorf("got %s, want %s", typeOf(v), want)
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	if f, ok := v.(starlark.Callable); ok && f.Name() != "lambda" {
		return &runtime.Error{Hint: fmt.Sprintf("%s(...) calls it", f.Name()), Err: err}
	}
	return err
}

func toString(path string, v starlark.Value) (string, error) {
	s, ok := starlark.AsString(v)
	if !ok {
		return "", wrongType(path, v, "str")
	}
	return s, nil
}

// A filled text is one that is not empty.
type filled struct{ to *string }

func (f filled) slot() slot { return newSlot("str", f.to, toFilled, showString) }

func toFilled(path string, v starlark.Value) (string, error) {
	s, err := toString(path, v)
	if err == nil && s == "" {
		return "", fmt.Errorf("%s: it is empty", path)
	}
	return s, err
}

func toInt(path string, v starlark.Value) (int, error) {
	i, ok := v.(starlark.Int)
	if !ok {
		err := wrongType(path, v, "int")
		if _, ok := v.(starlark.Float); ok {
			err = &runtime.Error{Hint: "int(x) makes it whole; // divides without a fraction", Err: err}
		}
		return 0, err
	}
	n, err := starlark.AsInt32(i)
	if err != nil {
		return 0, fmt.Errorf("%s: %s is out of range", path, short(i))
	}
	return n, nil
}

// toFloat takes an int for a float too.
func toFloat(path string, v starlark.Value) (float64, error) {
	f, ok := starlark.AsFloat(v)
	if !ok {
		return 0, wrongType(path, v, "float")
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return 0, fmt.Errorf("%s: %s is not a finite number", path, short(v))
	}
	return f, nil
}

func toBool(path string, v starlark.Value) (bool, error) {
	b, ok := v.(starlark.Bool)
	if !ok {
		return false, wrongType(path, v, "bool")
	}
	return bool(b), nil
}

// toDuration takes a text, a number of seconds, or a duration of the module time.
func toDuration(path string, v starlark.Value) (time.Duration, error) {
	switch v := v.(type) {
	case starlark.String:
		d, err := runtime.ParseDuration(string(v))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		return d, nil
	case startime.Duration:
		return toSeconds(path, time.Duration(v).Seconds())
	case starlark.Int, starlark.Float:
		f, err := toFloat(path, v)
		if err != nil {
			return 0, err
		}
		return toSeconds(path, f)
	}
	return 0, wrongType(path, v, `a duration such as "90s", "1h30m" or "01:30:00"`)
}

// toLimit takes a duration that is not zero: that would not be known from one that is not given.
func toLimit(path string, v starlark.Value) (time.Duration, error) {
	d, err := toDuration(path, v)
	if err == nil && d == 0 {
		return 0, &runtime.Error{Hint: "leave it out for the default", Err: fmt.Errorf("%s: it must be longer than zero", path)}
	}
	return d, err
}

// A span is a duration that may be zero.
type span struct{ to *time.Duration }

func (s span) slot() slot { return newSlot("duration", s.to, toDuration, showDuration) }

func toSeconds(path string, s float64) (time.Duration, error) {
	if s < 0 || s > math.MaxInt64/float64(time.Second)/2 {
		return 0, fmt.Errorf("%s: %v seconds is out of range", path, s)
	}
	return time.Duration(s * float64(time.Second)), nil
}

// toBytes takes a text, or a number of MiB.
func toBytes(path string, v starlark.Value) (runtime.Bytes, error) {
	text, ok := starlark.AsString(v)
	if i, isInt := v.(starlark.Int); isInt {
		text, ok = i.String(), true
	}
	if !ok {
		return 0, wrongType(path, v, "an amount of memory such as \"4G\"")
	}
	b, err := runtime.ParseBytes(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// toPort takes a number; 0 is a port that is free.
func toPort(path string, v starlark.Value) (runtime.Port, error) {
	n, err := toInt(path, v)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return runtime.AnyPort, nil
	case n < 0 || n > 65535:
		return 0, fmt.Errorf("%s: %d is not a port: 1 to 65535, or 0 for one that is free", path, n)
	}
	return runtime.Port(n), nil
}

func toReady(path string, v starlark.Value) (runtime.Ready, error) {
	r, ok := v.(*readyValue)
	if !ok {
		return runtime.Ready{}, wrongType(path, v, `what ready.http("/health") and its like return`)
	}
	return r.Ready, nil
}

func toMetrics(path string, v starlark.Value) ([]runtime.Metric, error) {
	return toList(path, v, func(path string, v starlark.Value) (runtime.Metric, error) {
		m, ok := v.(*metricValue)
		if !ok {
			return runtime.Metric{}, wrongType(path, v, "what metric.csv() and its like return")
		}
		return m.Metric, nil
	})
}

// toStrings takes a single string for a list of one. A number in it is taken as it is written.
func toStrings(path string, v starlark.Value) ([]string, error) {
	return toList(path, v, func(path string, v starlark.Value) (string, error) {
		switch v.(type) {
		case starlark.Int, starlark.Float:
			return v.String(), nil
		}
		return toString(path, v)
	})
}

// toList takes a list, a tuple or a set, or a single element.
func toList[T any](path string, v starlark.Value, convert func(string, starlark.Value) (T, error)) (list []T, err error) {
	var elems starlark.Iterable
	switch v := v.(type) {
	case *starlark.List:
		elems = v
	case starlark.Tuple:
		elems = v
	case *starlark.Set:
		elems = v
	default:
		t, err := convert(path, v)
		return []T{t}, err
	}
	for v := range starlark.Elements(elems) {
		t, err := convert(fmt.Sprintf("%s[%d]", path, len(list)), v)
		if err != nil {
			return nil, err
		}
		list = append(list, t)
	}
	return list, nil
}

// toText takes what can be said in one way as text.
func toText(path string, v starlark.Value) (string, error) {
	switch v := v.(type) {
	case starlark.String:
		return string(v), nil
	case starlark.Int, starlark.Float, starlark.Bool:
		return v.String(), nil
	}
	return "", wrongType(path, v, "str, int, float or bool")
}

func toTexts(path string, v starlark.Value) (map[string]string, error) { return toMap(path, v, toText) }

// toSelection takes, for each key, a value or a list of those that are wanted.
func toSelection(path string, v starlark.Value) (map[string][]string, error) {
	return toMap(path, v, func(path string, v starlark.Value) ([]string, error) { return toList(path, v, toText) })
}

// toMap takes a dict with strings as keys. Of several faults it reports the first in the dict's order.
func toMap[T any](path string, v starlark.Value, convert func(string, starlark.Value) (T, error)) (map[string]T, error) {
	d, ok := v.(*starlark.Dict)
	if !ok {
		return nil, wrongType(path, v, "dict")
	}
	m := make(map[string]T, d.Len())
	for k, v := range starlark.Entries(d) {
		key, ok := starlark.AsString(k)
		if !ok {
			return nil, fmt.Errorf("%s: the key %s is %s, want str", path, k, typeOf(k))
		}
		elem := key // of **name
		if path != "" {
			elem = fmt.Sprintf("%s[%q]", path, key)
		}
		t, err := convert(elem, v)
		if err != nil {
			return nil, err
		}
		m[key] = t
	}
	return m, nil
}

func toHandle(path string, v starlark.Value) (*runtime.Handle, error) {
	h, ok := v.(*handle)
	if !ok {
		return nil, wrongType(path, v, "Service, Client or Job")
	}
	return h.Handle, nil
}

// toHandles takes handles, and lists of them.
func toHandles(path string, v starlark.Value) ([]*runtime.Handle, error) {
	lists, err := toList(path, v, func(path string, v starlark.Value) ([]*runtime.Handle, error) {
		return toList(path, v, toHandle)
	})
	return slices.Concat(lists...), err
}

// services is the slot of what a client measures.
type services struct{ to *[]*runtime.Handle }

func (s services) slot() slot {
	return newSlot("Service or list", s.to, func(path string, v starlark.Value) ([]*runtime.Handle, error) {
		if name, ok := starlark.AsString(v); ok {
			return nil, &runtime.Error{Hint: "give it what service() returned", Err: fmt.Errorf("%s: got the str %q, want Service", path, name)}
		}
		hs, err := toHandles(path, v)
		if err != nil {
			return nil, err
		}
		for _, h := range hs {
			if h.Role != runtime.RoleService {
				return nil, fmt.Errorf("%s: %s is a %s, want a service", path, h.Name, h.Role)
			}
		}
		return hs, nil
	}, func([]*runtime.Handle) string { return "None" })
}

func toTuple(path string, v starlark.Value) (starlark.Tuple, error) {
	t, ok := v.(starlark.Tuple)
	if !ok {
		return nil, wrongType(path, v, "tuple")
	}
	return t, nil
}

func toCallable(path string, v starlark.Value) (starlark.Callable, error) {
	f, ok := v.(starlark.Callable)
	if !ok {
		return nil, &runtime.Error{Hint: "give the function without calling it, f and not f(); lambda: f(x) is one that has the arguments",
			Err: wrongType(path, v, "function")}
	}
	return f, nil
}

func toIterable(path string, v starlark.Value) (starlark.Iterable, error) {
	it, ok := v.(starlark.Iterable)
	if !ok {
		return nil, wrongType(path, v, "a list or another iterable")
	}
	return it, nil
}

// texts turns a map into a dict, in the order of its keys.
func texts(m map[string]string) *starlark.Dict {
	d := starlark.NewDict(len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		d.SetKey(starlark.String(k), starlark.String(m[k])) // strings can be hashed
	}
	d.Freeze()
	return d
}
