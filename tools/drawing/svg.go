package drawing

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"fmt"
	"strconv"
)

// style keeps foreground and background together, so that the drawing is
// readable on any page. The colours of spans are told apart by most eyes.
const style = `
.bg{fill:#ffffff}.fg{fill:#1f2328}.dim{fill:#59636e}.axis{stroke:#1f2328}.grid{stroke:#d1d9e0}.lead{stroke:#818b98}.kill{stroke:#cf222e}.dot{fill:#1f2328}
.c0{fill:#56b4e9}.c1{fill:#e69f00}.c2{fill:#2fa47f}.c3{fill:#d55e00}.c4{fill:#cc79a7}.c5{fill:#8c8c8c}.c6{fill:#f0e442}
text{font:11px ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}.name{font-weight:bold}
@media (prefers-color-scheme:dark){.bg{fill:#0d1117}.fg{fill:#f0f6fc}.dim{fill:#9198a1}.axis{stroke:#f0f6fc}.grid{stroke:#2f3742}.lead{stroke:#656c76}.kill{stroke:#ff7b72}.dot{fill:#f0f6fc}}
`

const colours = 7

type canvas struct {
	bytes.Buffer
	s       scale
	classes []string // in the order of their first span
}

// Timeline draws lanes below a title, with 0 ms at the kill.
func Timeline(title string, lanes []Lane) []byte {
	c := &canvas{s: newScale(lanes)}
	for _, l := range lanes {
		for _, p := range l.Spans {
			c.colour(p.Class)
		}
	}
	var body canvas
	body.s, body.classes = c.s, c.classes
	head := edge + 4 // the legend's line
	if title != "" {
		head += rowHeight + 6
	}
	y := head + 2*rowHeight - 4
	top := y
	for _, l := range lanes {
		y = body.lane(l, y) + laneGap
	}
	height := y + rowHeight
	c.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %s" width="%s" height="%s" role="img">`+"\n",
		num(width), num(height), num(width), num(height))
	c.printf("<title>")
	_ = xml.EscapeText(c, []byte(cmp.Or(title, "Recovery")+", in milliseconds after the kill")) // a buffer's Write does not fail
	c.printf("</title>\n<style>%s</style>\n", style)
	c.printf(`<rect class="bg" width="%s" height="%s"/>`+"\n", num(width), num(height))
	if title != "" {
		c.text("fg name", edge, edge+4, title)
	}
	c.legend(head)
	c.axis(top-6, y-laneGap/2)
	c.Write(body.Bytes())
	c.printf("</svg>\n")
	return c.Bytes()
}

func (c *canvas) printf(format string, args ...any) { fmt.Fprintf(c, format, args...) }

// colour is the number of a class.
func (c *canvas) colour(class string) int {
	for i, k := range c.classes {
		if k == class {
			return i % colours
		}
	}
	c.classes = append(c.classes, class)
	return (len(c.classes) - 1) % colours
}

func (c *canvas) text(class string, x, y float64, s string) {
	c.printf(`<text class="%s" x="%s" y="%s">`, class, num(x), num(y))
	_ = xml.EscapeText(c, []byte(s)) // a buffer's Write does not fail
	c.printf("</text>\n")
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.printf(`<path class="%s" d="M%s %sL%s %s"/>`+"\n", class, num(x1), num(y1), num(x2), num(y2))
}

func (c *canvas) legend(y float64) {
	x := c.s.left
	c.text("dim", edge, y, "ms after kill")
	for i, k := range c.classes {
		if k == "" {
			continue
		}
		x = max(x, edge+textWidth("ms after kill")+20)
		c.printf(`<rect class="c%d" x="%s" y="%s" width="10" height="10" rx="2"/>`+"\n", i%colours, num(x), num(y-9))
		c.text("fg", x+15, y, k)
		x += 15 + textWidth(k) + 18
	}
}

// axis draws the grid with the times below it.
func (c *canvas) axis(top, bottom float64) {
	for _, t := range ticks(c.s) {
		x := c.s.x(t)
		class := "grid"
		if t == 0 {
			class = "kill"
		}
		c.line(class, x, top, x, bottom)
		s := strconv.FormatFloat(t, 'g', 10, 64)
		c.text("dim", x-textWidth(s)/2, bottom+rowHeight, s)
	}
}

// lane draws one lane with its top at y and returns its bottom.
func (c *canvas) lane(l Lane, y float64) float64 {
	labels, bars := place(l.Marks, c.s), stack(l.Spans, c.s)
	rows, under := 1, 0
	for _, m := range labels {
		rows = max(rows, m.row+1)
	}
	for _, b := range bars {
		under = max(under, b.row+1)
	}
	line := y + float64(rows)*rowHeight + 4
	c.text("fg name", edge, line+4, l.Name)
	for _, b := range bars {
		c.bar(b, line+6+float64(b.row)*(barHeight+2))
	}
	for _, m := range labels {
		base := line - 6 - float64(m.row)*rowHeight
		c.line("lead", m.x, base-8, m.x, line)
		c.text("fg", m.x+textInset, base, m.text)
	}
	c.line("axis", c.s.left, line, c.s.right, line)
	for _, m := range labels {
		c.printf(`<circle class="dot" cx="%s" cy="%s" r="2.5"/>`+"\n", num(m.x), num(line))
	}
	return line + 6 + float64(under)*(barHeight+2)
}

func (c *canvas) bar(b bar, y float64) {
	c.printf(`<g><rect class="c%d" opacity="0.55" x="%s" y="%s" width="%s" height="%s" rx="2"/>`,
		c.colour(b.span.Class), num(b.from), num(y), num(b.to-b.from), num(barHeight))
	tip := fmt.Sprintf("%s %s to %s ms", b.span.Label, num(min(b.span.From, b.span.To)), num(max(b.span.From, b.span.To)))
	c.printf("<title>")
	_ = xml.EscapeText(c, []byte(tip)) // a buffer's Write does not fail
	c.printf("</title></g>\n")
	if textWidth(b.span.Label)+2*textInset <= b.to-b.from {
		c.text("fg", b.from+textInset, y+12, b.span.Label)
	}
}

// num writes a coordinate with at most one decimal.
func num(v float64) string {
	s := strconv.FormatFloat(v, 'f', 1, 64)
	if len(s) > 2 && s[len(s)-2:] == ".0" {
		s = s[:len(s)-2]
	}
	if s == "-0" {
		return "0"
	}
	return s
}
