package lab
import ("testing";"os";"time";"fmt")
func TestQuick(t *testing.T){
 ctx:=t.Context()
 l,err:=New(ctx,Config{Nodes:1,Log:os.Stderr}); if err!=nil{t.Fatal(err)}
 defer func(){t0:=time.Now(); if err:=l.Close();err!=nil{t.Error(err)}; t.Log("close",time.Since(t0))}()
 t0:=time.Now()
 if err:=l.Up(ctx);err!=nil{t.Fatal(err)}
 t.Log("up", time.Since(t0))
 x:=func(s string){ t0=time.Now(); r,err:=l.Node(1).Exec(ctx,s); t.Log(s,r,err,time.Since(t0)) }
 for range 5 { x("true") }
 time.Sleep(5*time.Second)
 for range 5 { x("true") }
 x("time /bin/true; time /bin/true; time sh -c true")
 t0=time.Now(); c,err:=l.Dial(ctx,"tcp","10.78.0.11:7077"); t.Log(time.Since(t0),err); c.Close()
 x("for i in 1 2 3 4 5 6 7 8 9 10; do /bin/true; done")
 x("strace -c /bin/true")
 fmt.Println(l.Node(1).ConsoleTail(40))
}
