package starlib

// A Type is a row of the table of types: what recipes can do with the values that builtins return. Like the table of
// builtins it drives the reference, completion, stubs for editors, and what can be checked of an attribute.
type Type struct {
	Name    string     `json:"name"` // as a builtin's Returns has it, and type(x) says
	Doc     string     `json:"doc"`
	Attrs   []Attr     `json:"attributes,omitempty"`
	Methods []*Builtin `json:"methods,omitempty"`
}

// An Attr is an attribute that is not a method.
type Attr struct {
	Name string `json:"name"`
	Type string `json:"type"` // its value may also be None, while it is not known
	Doc  string `json:"doc"`
}

// Types returns the table of types.
func Types() []*Type {
	var ofHandle, ofRow []Attr
	for _, a := range handleAttrs {
		ofHandle = append(ofHandle, a.Attr)
	}
	for _, a := range rowAttrs {
		ofRow = append(ofRow, a.Attr)
	}
	return []*Type{
		{Name: "Service", Doc: "A service that was started.", Attrs: ofHandle, Methods: handleMethods()},
		{Name: "Client", Doc: "A client that was started: one job, or count of them.", Attrs: ofHandle, Methods: handleMethods()},
		{Name: "Job", Doc: "Any other job that was started.", Attrs: ofHandle, Methods: handleMethods()},
		{Name: "Table", Doc: "Measurements. A loop over it and t[i] give a Measurement each; it prints as a table.", Methods: tableMethods()},
		{Name: "Measurement", Doc: "A value that was measured.", Attrs: ofRow},
		{Name: "ClusterTable", Doc: "Jobs or nodes of the cluster. A loop over it and t[i] give a struct each, with the columns as attributes; it prints as a table.",
			Methods: clusterTableMethods()},
		{Name: "Secret", Doc: "A variable of the environment for jobs, whose value shows nowhere."},
		{Name: "Ready", Doc: "How to see that a service answers."},
		{Name: "Metric", Doc: "How to read measurements from what a job wrote."},
	}
}
