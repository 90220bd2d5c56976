package lab

type Collector struct{}
func (c *Collector) Close() {}
