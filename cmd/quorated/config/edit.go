package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// NewNode is a node to be added to a text.
type NewNode struct {
	Name  string
	ID    uint64
	Addrs []string
	// Like names a node whose fence devices can cut it off, too, and Plug is its
	// outlet there; or Agent is its own device, with its Options in key=value form.
	Like    string
	Plug    string
	Agent   string
	Options []string
}

// outline is as much of a text as edits need.
type outline struct {
	Node []struct {
		Name string
		ID   uint64
	}
	Fence []struct {
		Nodes []any
		Plugs map[string]any
	}
}

// editor changes a text's nodes. Everything else stays as it was written.
type editor struct {
	text string
	*scanner
	outline
}

func edited(text string) (*editor, error) {
	e := &editor{text: text, scanner: scan(text)}
	if _, err := ParseAgreed(text); err != nil {
		return nil, err
	}
	if err := toml.Unmarshal([]byte(text), &e.outline); err != nil {
		return nil, err
	}
	if len(e.Node) > 0 {
		if _, _, ok := e.section("node[0]"); !ok {
			return nil, fmt.Errorf("%w: nodes are changed by hand where they are not [[node]] sections: edit the file, then run `quorate config apply FILE`", ErrInvalid)
		}
	}
	return e, nil
}

// node is the place of a node, by name or id.
func (e *editor) node(word string) (int, error) {
	for i, n := range e.Node {
		if n.Name == word || fmt.Sprint(n.ID) == word {
			return i, nil
		}
	}
	var all []string
	for _, n := range e.Node {
		all = append(all, n.Name)
	}
	return 0, fmt.Errorf("there is no node %q%s: the nodes are %s", word, suggest(word, all), strings.Join(all, ", "))
}

// has says whether a device can cut a node off.
func (e *editor) has(fence, node int) bool {
	return slices.ContainsFunc(e.Fence[fence].Nodes, func(x any) bool {
		w := fmt.Sprint(x)
		return w == e.Node[node].Name || w == fmt.Sprint(e.Node[node].ID)
	})
}

// AddNode adds a node, and says that its devices can cut it off.
func AddNode(text string, n NewNode) (string, error) {
	e, err := edited(text)
	if err != nil {
		return "", err
	}
	if err := newcomer(text, n); err != nil {
		return "", err
	}
	_, at, _ := e.section(fmt.Sprintf("node[%d]", len(e.Node)-1))
	quoted := make([]string, len(n.Addrs))
	for i, a := range n.Addrs {
		quoted[i] = fmt.Sprintf("%q", a)
	}
	edits := []edit{{at, at, ended(text[:at]) + fmt.Sprintf("\n[[node]]\nname = %q\nid = %d\naddr = [%s]\n", n.Name, n.ID, strings.Join(quoted, ", "))}}
	switch {
	case n.Like != "":
		more, err := e.like(n)
		if err != nil {
			return "", err
		}
		edits = append(edits, more...)
	case n.Agent != "":
		x, err := e.device(n, at)
		if err != nil {
			return "", err
		}
		if x.from == at {
			edits[0].by += x.by
		} else {
			edits = append(edits, x)
		}
	}
	out := apply(text, edits)
	return out, sound(out, mine)
}

// newcomer refuses a node that is there already, and one that nothing cuts off.
func newcomer(text string, n NewNode) error {
	c, err := ParseAgreed(text)
	if err != nil {
		return err
	}
	for _, o := range c.Nodes {
		switch i := slices.IndexFunc(n.Addrs, func(a string) bool {
			return slices.ContainsFunc(o.Addrs, func(b netip.Addr) bool { return b.String() == a })
		}); {
		case o.Name == n.Name:
			return fmt.Errorf("there is a node %s already; see `quorate nodes`", n.Name)
		case uint64(o.ID) == n.ID:
			return fmt.Errorf("id %d is that of node %s: leave --id out, for one that no node has; see `quorate nodes`", n.ID, o.Name)
		case i >= 0:
			return fmt.Errorf("%s is the address of node %s; see `quorate nodes`", n.Addrs[i], o.Name)
		}
	}
	if n.Like == "" && n.Agent == "" && !c.ManualFence {
		return fmt.Errorf("say how %s is cut off: --like NODE, or --fence 'agent=NAME KEY=VALUE …'", n.Name)
	}
	return nil
}

// What to do about a text that was made here and cannot be agreed on.
const (
	mine   = "with that: correct what you wrote, or first change what does not go with it"
	others = "afterwards: change what is named first"
)

// sound is nil for a text that can be agreed on.
func sound(text, do string) error {
	if _, err := ParseAgreed(text); err != nil {
		return fmt.Errorf("the configuration (`quorate config show`) would not be valid %s, with `quorate config apply`: %w", do, err)
	}
	return nil
}

// ended is what a text lacks to end with a line.
func ended(text string) string {
	if text == "" || strings.HasSuffix(text, "\n") {
		return ""
	}
	return "\n"
}

// like puts a new node to every device of another one.
func (e *editor) like(n NewNode) ([]edit, error) {
	i, err := e.node(n.Like)
	if err != nil {
		return nil, fmt.Errorf("--like: %w", err)
	}
	var out []edit
	for k, f := range e.Fence {
		if !e.has(k, i) {
			continue
		}
		nodes, _ := e.find(fmt.Sprintf("fence[%d].nodes", k))
		out = append(out, e.insert(nodes, fmt.Sprintf("%q", n.Name)))
		if len(f.Plugs) == 0 {
			continue
		}
		if n.Plug == "" {
			return nil, fmt.Errorf("a fence device of %s has plugs: say --plug with that of %s", n.Like, n.Name)
		}
		plug := fmt.Sprintf("%s = %q", bareOrQuoted(n.Name), n.Plug)
		if plugs, ok := e.find(fmt.Sprintf("fence[%d].plugs", k)); ok {
			out = append(out, e.insert(plugs, plug))
			continue
		}
		h := slices.IndexFunc(e.headers, func(h header) bool { return h.path == fmt.Sprintf("fence[%d].plugs", k) })
		if h < 0 {
			return nil, fmt.Errorf("%w: the plugs of a device of %s are written in a way that has to be edited by hand, with `quorate config apply FILE`", ErrInvalid, n.Like)
		}
		out = append(out, edit{e.headers[h].end, e.headers[h].end, plug + "\n"})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no fence device is configured for %s: say --fence with the device of %s", n.Like, n.Name)
	}
	return out, nil
}

func bareOrQuoted(key string) string {
	if strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == "" {
		return key
	}
	return fmt.Sprintf("%q", key)
}

// insert adds an item to a list or an inline table that is not empty: at its end, or
// where it has several lines, which may end with a comment, at its begin.
func (e *editor) insert(x span, item string) edit {
	value := e.text[x.val:x.end]
	if strings.ContainsAny(value, "\n#") {
		return edit{x.val + 1, x.val + 1, " " + item + ","}
	}
	inner := strings.TrimRight(value[:len(value)-1], " \t,")
	return edit{x.val + len(inner), x.val + len(value) - 1, ", " + item + value[len(strings.TrimRight(value[:len(value)-1], " \t")):len(value)-1]}
}

// device is a new node's own device, after the others or where the nodes end.
func (e *editor) device(n NewNode, after int) (edit, error) {
	var options []string
	for _, o := range n.Options {
		k, v, ok := strings.Cut(o, "=")
		if !ok || k == "" {
			return edit{}, fmt.Errorf("%w: --fence: %q: write agent=NAME and the agent's options, each as key=value", ErrInvalid, o)
		}
		options = append(options, fmt.Sprintf("%s = %q", bareOrQuoted(k), v))
	}
	at := after
	if len(e.Fence) > 0 {
		if _, to, ok := e.section(fmt.Sprintf("fence[%d]", len(e.Fence)-1)); ok {
			at = to
		}
	}
	return edit{at, at, ended(e.text[:at]) + fmt.Sprintf("\n[[fence]]\nnodes = [%q]\nagent = %q\noptions = { %s }\n", n.Name, n.Agent, strings.Join(options, ", "))}, nil
}

// RemoveNode removes a node, and takes it from its devices. A device that cuts off
// nobody else goes with it.
func RemoveNode(text, word string) (string, error) {
	e, err := edited(text)
	if err != nil {
		return "", err
	}
	i, err := e.node(word)
	if err != nil {
		return "", err
	}
	from, to, _ := e.section(fmt.Sprintf("node[%d]", i))
	edits := []edit{e.cut(from, to)}
	for k := range e.Fence {
		if e.has(k, i) {
			edits = append(edits, e.release(k, i)...)
		}
	}
	out := apply(text, edits)
	return out, sound(out, others)
}

// cut takes out a section, with the empty line before it.
func (e *editor) cut(from, to int) edit {
	if strings.HasSuffix(e.text[:from], "\n\n") {
		from--
	}
	return edit{from: from, to: to}
}

// release takes a node from a device.
func (e *editor) release(fence, node int) []edit {
	name, id := e.Node[node].Name, fmt.Sprint(e.Node[node].ID)
	var rest []string
	for _, x := range e.Fence[fence].Nodes {
		if w := fmt.Sprint(x); w != name && w != id {
			rest = append(rest, fmt.Sprintf("%q", w))
		}
	}
	path := fmt.Sprintf("fence[%d]", fence)
	if len(rest) == 0 {
		if from, to, ok := e.section(path); ok {
			return []edit{e.cut(from, to)}
		}
	}
	nodes, _ := e.find(path + ".nodes")
	out := []edit{{nodes.val, nodes.end, "[" + strings.Join(rest, ", ") + "]"}}
	for _, key := range []string{name, id} {
		if x, ok := e.find(path + ".plugs." + key); ok {
			out = append(out, e.remove(x))
		}
	}
	return out
}

// remove takes out one key: its line, or its part of an inline table.
func (e *editor) remove(x span) edit {
	if !x.inline {
		return wholeLine(e.text, x)
	}
	rest := strings.TrimLeft(e.text[x.end:], " \t")
	if strings.HasPrefix(rest, ",") {
		to := len(e.text) - len(strings.TrimLeft(rest[1:], " \t"))
		return edit{from: x.key, to: to}
	}
	return edit{from: len(strings.TrimRight(e.text[:x.key], " \t,")), to: x.end}
}

// MoveNode gives a node other addresses.
func MoveNode(text, word string, addrs []string) (string, error) {
	e, err := edited(text)
	if err != nil {
		return "", err
	}
	i, err := e.node(word)
	if err != nil {
		return "", err
	}
	quoted := make([]string, len(addrs))
	for k, a := range addrs {
		quoted[k] = fmt.Sprintf("%q", a)
	}
	x, ok := e.find(fmt.Sprintf("node[%d].addr", i))
	if !ok {
		return "", fmt.Errorf("%w: node %s has no addr", ErrInvalid, word)
	}
	out := apply(text, []edit{{x.val, x.end, "[" + strings.Join(quoted, ", ") + "]"}})
	return out, sound(out, mine)
}
