package importer

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
)

// element is an element of cluster.conf.
type element struct {
	pos
	name  string
	attrs []option
	subs  []*element
}

// parseXML reads cluster.conf into its root element. What the parser of XML says
// is not passed on: it may quote a secret that was not written as XML asks.
func parseXML(f File) (*element, Faults) {
	d := xml.NewDecoder(bytes.NewReader(f.Data))
	var root *element
	var open []*element
	fault := func(text string) Faults {
		line, _ := d.InputPos()
		return Faults{{File: f.Name, Line: line, Text: text}}
	}
	for {
		line, _ := d.InputPos() // of the first byte of the next token
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fault(xmlFault(err))
		}
		switch t := token.(type) {
		case xml.StartElement:
			e := &element{pos: pos{f.Name, line}, name: t.Name.Local}
			for _, a := range t.Attr {
				e.attrs = append(e.attrs, option{e.pos, a.Name.Local, a.Value})
			}
			switch {
			case len(open) >= maxDepth:
				return nil, fault("elements are nested too deep: close those before")
			case len(open) > 0:
				in := open[len(open)-1]
				in.subs = append(in.subs, e)
			case root != nil:
				return nil, fault("a second element beside the first: everything belongs inside <cluster>")
			default:
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		}
	}
	if root == nil {
		return nil, fault("no element at all: write <cluster name=\"…\">, or is this the right file?")
	}
	return root, nil
}

func xmlFault(err error) string {
	var syntax *xml.SyntaxError
	if errors.As(err, &syntax) {
		return "not XML: see that every element is closed, every value stands in quotes, and & < are written as &amp; &lt; (ccs_config_validate, or xmllint, says more)"
	}
	return "not XML in UTF-8: convert it (iconv -t UTF-8), and say encoding=\"UTF-8\" on the first line"
}

// attr returns the value of an attribute.
func (e *element) attr(key string) (string, bool) {
	for _, a := range e.attrs {
		if a.key == key {
			return a.value, true
		}
	}
	return "", false
}
