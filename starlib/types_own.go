package starlib

import "strings"

// Own returns rows for what is Starlark's own, with its modules. They are only for who reads: the reference, completion,
// stubs, and what can be checked of a call. What is Python's too is not among them.
func Own() []*Builtin {
	var all []*Builtin
	for _, row := range []struct{ subject, signature, doc string }{
		{"values", "struct(**fields: any) -> struct", "A value with attributes of these names."},

		{"JSON", "json.encode(x: any) -> str", "A value as JSON."},
		{"JSON", "json.encode_indent(x: any, *, prefix: str = \"\", indent: str = \"\\t\") -> str", "A value as JSON, a line for each element."},
		{"JSON", "json.decode(x: str, default: any = None) -> any", "The value of a JSON text. Without a default, what is no JSON is an error."},
		{"JSON", "json.indent(str: str, *, prefix: str = \"\", indent: str = \"\\t\") -> str", "A JSON text with a line for each element."},

		{"time", "time.now() -> Time", "The time now."},
		{"time", "time.time(year: int = 0, month: int = 0, day: int = 0, hour: int = 0, minute: int = 0, second: int = 0, nanosecond: int = 0, location: str = \"UTC\") -> Time", "A time. Parameters are given by name."},
		{"time", "time.from_timestamp(sec: int, nsec: int = 0) -> Time", "The time so many seconds after 1970."},
		{"time", "time.parse_time(x: str, format: str = \"2006-01-02T15:04:05Z07:00\", location: str = \"UTC\") -> Time", "The time that a text means. The format is Go's."},
		{"time", "time.parse_duration(d: str) -> Duration", "The duration that a text such as \"1h30m\" means."},
		{"time", "time.is_valid_timezone(loc: str) -> bool", "Whether there is a time zone of that name."},

		{"mathematics", "math.ceil(x: float) -> int", "The least whole number that is not less than x."},
		{"mathematics", "math.floor(x: float) -> int", "The greatest whole number that is not more than x."},
		{"mathematics", "math.round(x: float) -> float", "The nearest whole number, halves away from zero."},
		{"mathematics", "math.fabs(x: float) -> float", "x without its sign."},
		{"mathematics", "math.copysign(x: float, y: float) -> float", "x with the sign of y."},
		{"mathematics", "math.mod(x: float, y: float) -> float", "The remainder of x / y, with the sign of x."},
		{"mathematics", "math.remainder(x: float, y: float) -> float", "The IEEE 754 remainder of x / y."},
		{"mathematics", "math.pow(x: float, y: float) -> float", "x to the power of y."},
		{"mathematics", "math.exp(x: float) -> float", "e to the power of x."},
		{"mathematics", "math.log(x: float, base: float = 2.718281828459045) -> float", "The logarithm of x."},
		{"mathematics", "math.sqrt(x: float) -> float", "The square root of x."},
		{"mathematics", "math.hypot(x: float, y: float) -> float", "The square root of x*x + y*y."},
		{"mathematics", "math.gamma(x: float) -> float", "The gamma function."},
		{"mathematics", "math.degrees(x: float) -> float", "Radians in degrees."},
		{"mathematics", "math.radians(x: float) -> float", "Degrees in radians."},
		{"mathematics", "math.sin(x: float) -> float", "The sine of x, in radians."},
		{"mathematics", "math.cos(x: float) -> float", "The cosine of x, in radians."},
		{"mathematics", "math.tan(x: float) -> float", "The tangent of x, in radians."},
		{"mathematics", "math.asin(x: float) -> float", "The arc sine of x, in radians."},
		{"mathematics", "math.acos(x: float) -> float", "The arc cosine of x, in radians."},
		{"mathematics", "math.atan(x: float) -> float", "The arc tangent of x, in radians."},
		{"mathematics", "math.atan2(y: float, x: float) -> float", "The angle of the point (x, y), in radians."},
		{"mathematics", "math.sinh(x: float) -> float", "The hyperbolic sine of x."},
		{"mathematics", "math.cosh(x: float) -> float", "The hyperbolic cosine of x."},
		{"mathematics", "math.tanh(x: float) -> float", "The hyperbolic tangent of x."},
		{"mathematics", "math.asinh(x: float) -> float", "The inverse hyperbolic sine of x."},
		{"mathematics", "math.acosh(x: float) -> float", "The inverse hyperbolic cosine of x."},
		{"mathematics", "math.atanh(x: float) -> float", "The inverse hyperbolic tangent of x."},
	} {
		all = append(all, ownRow(row.subject, row.signature, row.doc))
	}
	return all
}

// ownRow reads the row of a signature as the table above writes it.
func ownRow(subject, signature, doc string) *Builtin {
	left, returns, _ := strings.Cut(signature, " -> ")
	name, params, _ := strings.Cut(strings.TrimSuffix(left, ")"), "(")
	b := &Builtin{Name: name, Subject: subject, Doc: doc, Returns: returns}
	keyword := false
	for text := range strings.SplitSeq(params, ", ") {
		if text == "" {
			continue
		}
		if text == "*" {
			keyword = true
			continue
		}
		left, def, optional := strings.Cut(text, " = ")
		name, typ, _ := strings.Cut(left, ": ")
		p := Param{Name: strings.TrimLeft(name, "*"), Type: typ, Default: def, Keyword: keyword}
		p.Rest = strings.TrimSuffix(name, p.Name)
		p.Required = !optional && p.Rest == ""
		b.Params = append(b.Params, p)
	}
	return b.anything()
}
