// Command fence_lab is the lab's fence agent.
package main
func main(){}
