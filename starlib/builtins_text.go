package starlib

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.starlark.net/starlark"
	"go.starlark.net/syntax"

	"github.com/aifb/aifb/runtime"
)

const plus = syntax.PLUS

// specForm is the part of Python's format specification that fmt knows: [<>^][+][0][width][,][.precision][type].
var specForm = regexp.MustCompile(`^([<>^])?(\+)?(0)?(\d{1,3})?(,)?(?:\.(\d{1,2}))?([dfeg%s])?$`)

// format writes a value as spec says.
func format(x starlark.Value, spec string) (string, error) {
	m := specForm.FindStringSubmatch(spec)
	if m == nil {
		return "", &runtime.Error{Hint: `".2f" has two digits, ",d" groups, "8.1f" has a width, ".1%" is a percentage`,
			Err: fmt.Errorf("%q is no format", spec)}
	}
	text, isText := starlark.AsString(x)
	number, isNumber := starlark.AsFloat(x)
	switch {
	case isText && (m[7] == "" || m[7] == "s"):
	case isNumber && m[7] != "s":
		if _, isFloat := x.(starlark.Float); isFloat && m[7] == "d" {
			return "", &runtime.Error{Hint: `".0f" rounds`, Err: fmt.Errorf("%q is for an int, not a float", spec)}
		}
		text = digits(x, number, m[6], m[7])
		if m[5] != "" {
			text = group(text)
		}
		if m[2] != "" && number >= 0 {
			text = "+" + text
		}
	default:
		return "", fmt.Errorf("%q is not for a %s", spec, typeOf(x))
	}
	width, _ := strconv.Atoi(m[4])
	return pad(text, width, m[1], m[3] != "", isNumber), nil
}

// digits writes a number without sign, groups and width.
func digits(x starlark.Value, number float64, precision, kind string) string {
	n := 6
	if precision != "" {
		n, _ = strconv.Atoi(precision)
	}
	switch kind {
	case "f":
		return strconv.FormatFloat(number, 'f', n, 64)
	case "e":
		return strconv.FormatFloat(number, 'e', n, 64)
	case "%":
		return strconv.FormatFloat(number*100, 'f', n, 64) + "%"
	case "g":
		return strconv.FormatFloat(number, 'g', n, 64)
	}
	if i, ok := x.(starlark.Int); ok {
		return i.String()
	}
	if precision != "" {
		return strconv.FormatFloat(number, 'g', n, 64)
	}
	return strconv.FormatFloat(number, 'g', -1, 64)
}

// group sets off the thousands of a number by commas.
func group(text string) string {
	whole := strings.TrimLeft(text, "-")
	end := strings.IndexFunc(whole, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(whole)
	}
	rest := whole[end:]
	whole = whole[:end]
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if strings.HasPrefix(text, "-") {
		whole = "-" + whole
	}
	return whole + rest
}

// pad fills a text up to a width. Numbers are to the right.
func pad(text string, width int, align string, zero, number bool) string {
	fill := max(width-utf8.RuneCountInString(text), 0)
	switch {
	case zero && number && align == "":
		sign := ""
		if strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
			sign, text = text[:1], text[1:]
		}
		return sign + strings.Repeat("0", fill) + text
	case align == "^":
		return strings.Repeat(" ", fill/2) + text + strings.Repeat(" ", fill-fill/2)
	case align == ">" || align == "" && number:
		return strings.Repeat(" ", fill) + text
	}
	return text + strings.Repeat(" ", fill)
}

func round(x float64, digits int) (starlark.Value, error) {
	const most = 308 // no float has more before the point, and none that matter have more behind it
	switch {
	case digits == 0:
		return starlark.NumberToInt(starlark.Float(math.RoundToEven(x)))
	case digits > most:
		return starlark.Float(x), nil
	case digits > 0:
		f, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', digits, 64), 64)
		return starlark.Float(f), err
	case digits < -most:
		return starlark.Float(0), nil
	}
	scale := math.Pow(10, float64(-digits))
	return starlark.Float(math.RoundToEven(x/scale) * scale), nil
}
