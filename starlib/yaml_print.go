package starlib

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.starlark.net/syntax"
)

// Starlark is the recipe as a Starlark program. Of one in YAML it is the calls that it means, which start the same jobs.
func (r *Recipe) Starlark() string {
	f := r.file
	if !f.isYAML() {
		return string(f.text)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Converted from %s by aifb convert.\n", f.name)
	if f.target != "" {
		fmt.Fprintf(&b, "# Its target was %s: aifb exec -t says so from now on.\n", f.target)
	}
	for _, w := range f.warnings {
		fmt.Fprintf(&b, "# %s\n", w)
	}
	b.WriteString("\n" + printStmts(f.syntax.Stmts, 0))
	return b.String()
}

// printWidth is how long a line may become before it is broken.
const printWidth = 100

// printStmts writes the statements that recipes in YAML are made of.
func printStmts(stmts []syntax.Stmt, indent int) string {
	var b strings.Builder
	for i, stmt := range stmts {
		if i > 0 && indent == 0 && apart(stmts[i-1], stmt) {
			b.WriteString("\n")
		}
		b.WriteString(strings.Repeat(" ", indent))
		switch s := stmt.(type) {
		case *syntax.LoadStmt:
			names := []string{printExpr(s.Module, 0)}
			for _, from := range s.From {
				names = append(names, syntax.Quote(from.Name, false))
			}
			fmt.Fprintf(&b, "load(%s)\n", strings.Join(names, ", "))
		case *syntax.DefStmt:
			head := oneLine("(", s.Params, ")")
			if !fits("def "+s.Name.Name+head+":", 0) {
				head = brokenLines("(", s.Params, ")", 0)
			}
			b.WriteString("def " + s.Name.Name + head + ":\n" + printStmts(s.Body, indent+4))
		case *syntax.AssignStmt:
			fmt.Fprintf(&b, "%s %v %s\n", printExpr(s.LHS, indent), s.Op, printExpr(s.RHS, indent))
		case *syntax.ExprStmt:
			fmt.Fprintf(&b, "%s\n", printExpr(s.X, indent))
		default:
			panic(fmt.Sprintf("starlib: no way to print a %T", s))
		}
	}
	return b.String()
}

// apart reports whether there is an empty line between two statements of a file.
func apart(before, after syntax.Stmt) bool {
	kind := func(s syntax.Stmt) string {
		switch s := s.(type) {
		case *syntax.LoadStmt:
			return "load"
		case *syntax.DefStmt:
			return "def"
		case *syntax.ExprStmt:
			if _, ok := s.X.(*syntax.Literal); ok {
				return "docstring"
			}
		}
		return ""
	}
	return kind(before) != kind(after)
}

// printExpr writes an expression in a line that is so far indented, or over several lines if that would be too long.
func printExpr(e syntax.Expr, indent int) string {
	text := flat(e)
	if fits(text, indent) {
		return text
	}
	switch e := e.(type) {
	case *syntax.CallExpr:
		if len(e.Args) > 0 {
			return flat(e.Fn) + brokenLines("(", e.Args, ")", indent)
		}
	case *syntax.ListExpr:
		return brokenLines("[", e.List, "]", indent)
	case *syntax.DictExpr:
		return brokenLines("{", e.List, "}", indent)
	case *syntax.DictEntry:
		return flat(e.Key) + ": " + printExpr(e.Value, indent)
	case *syntax.BinaryExpr:
		if e.Op == syntax.EQ {
			return flat(e.X) + " = " + printExpr(e.Y, indent)
		}
	case *syntax.Comprehension:
		in := "\n" + strings.Repeat(" ", indent+4)
		return "[" + in + printExpr(e.Body, indent+4) + in + clauses(e) + "\n" + strings.Repeat(" ", indent) + "]"
	}
	return text
}

// fits reports whether a text needs only one line.
func fits(text string, indent int) bool {
	return indent+utf8.RuneCountInString(text) <= printWidth && !strings.Contains(text, "\n")
}

// flat writes an expression in one line, but for the texts in it that have several.
func flat(e syntax.Expr) string {
	switch e := e.(type) {
	case *syntax.Ident:
		return e.Name
	case *syntax.Literal:
		return literalText(e)
	case *syntax.ListExpr:
		return oneLine("[", e.List, "]")
	case *syntax.TupleExpr:
		return oneLine("", e.List, "")
	case *syntax.ParenExpr:
		return "(" + flat(e.X) + ")"
	case *syntax.DictExpr:
		return oneLine("{", e.List, "}")
	case *syntax.DictEntry:
		return flat(e.Key) + ": " + flat(e.Value)
	case *syntax.UnaryExpr:
		return e.Op.String() + flat(e.X)
	case *syntax.BinaryExpr:
		return flat(e.X) + " " + e.Op.String() + " " + flat(e.Y)
	case *syntax.CallExpr:
		return flat(e.Fn) + oneLine("(", e.Args, ")")
	case *syntax.Comprehension:
		return "[" + flat(e.Body) + " " + clauses(e) + "]"
	}
	panic(fmt.Sprintf("starlib: no way to print a %T", e))
}

// literalText writes a text of several lines as it is, in three quotes, but not a short one.
func literalText(e *syntax.Literal) string {
	text, ok := e.Value.(string)
	strange := func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }
	if !ok || len(e.Raw) <= printWidth/3 || !strings.Contains(strings.TrimSuffix(text, "\n"), "\n") || strings.ContainsFunc(text, strange) ||
		strings.Contains(e.Raw, "\n") {
		return e.Raw
	}
	text = strings.NewReplacer(`\`, `\\`, `"""`, `\"\"\"`).Replace(text)
	if body, ok := strings.CutSuffix(text, `"`); ok {
		text = body + `\"`
	}
	return `"""` + text + `"""`
}

func clauses(e *syntax.Comprehension) string {
	var texts []string
	for _, c := range e.Clauses {
		c := c.(*syntax.ForClause)
		texts = append(texts, "for "+flat(c.Vars)+" in "+flat(c.X))
	}
	return strings.Join(texts, " ")
}

func oneLine(left string, exprs []syntax.Expr, right string) string {
	var texts []string
	for _, e := range exprs {
		texts = append(texts, flat(e))
	}
	return left + strings.Join(texts, ", ") + right
}

func brokenLines(left string, exprs []syntax.Expr, right string, indent int) string {
	var b strings.Builder
	b.WriteString(left + "\n")
	for _, e := range exprs {
		b.WriteString(strings.Repeat(" ", indent+4) + printExpr(e, indent+4) + ",\n")
	}
	b.WriteString(strings.Repeat(" ", indent) + right)
	return b.String()
}
