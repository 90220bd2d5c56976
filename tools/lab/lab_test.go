package lab
import ("testing";"os";"time")
func TestQuick(t *testing.T){
 ctx:=t.Context()
 l,err:=New(ctx,Config{Log:os.Stderr}); if err!=nil{t.Fatal(err)}
 defer func(){t0:=time.Now(); if err:=l.Close();err!=nil{t.Error(err)}; t.Log("close",time.Since(t0))}()
 t0:=time.Now()
 if err:=l.Up(ctx);err!=nil{t.Fatal(err)}
 t.Log("up", time.Since(t0))
 for range 5 { t0=time.Now(); r,err:=l.Node(1).Exec(ctx,"true"); t.Log(r,err,time.Since(t0)) }
 r,err:=l.Node(1).Exec(ctx,"uname -a; ip a; mount; ls -l /dev/misc /dev/ubd*; free; df; ps ax; lsmod; ping -c1 node2; ping -c1 10.77.0.1; fence_redfish -o metadata | head -3"); t.Log(r,err)
 t0=time.Now(); at,err:=l.Node(1).Kill(ctx); t.Log("kill",time.Since(t0),at,err)
 t.Log(l.Node(1).WaitGone(ctx), time.Since(t0)); t.Log(l.Node(1).LastDeath())
}
