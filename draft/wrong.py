import sys,torch,glob
torch.set_num_threads(1)
from latentbook.data import load_digits, train_validation_split
from latentbook.data.scenes import draw_scenes
from latentbook.experiments import air
from latentbook.experiments.air_measures import count_log_probs
from latentbook.experiments.run import but
f,scale=sys.argv[1],float(sys.argv[2]); kw={a.split('=')[0]:float(a.split('=')[1]) for a in sys.argv[3:]}
c=but(air.EXACT,where_mean=(scale,0.,0.),**kw)
m=air.build(c,0); m.load_state_dict(torch.load(f)); m.eval()
_,val=train_validation_split(load_digits("train"))
sc=draw_scenes(val,5000,c.measured,5)
lp=count_log_probs(m,sc.images); seen=lp.argmax(1)
w=(seen!=sc.labels).nonzero().flatten()
for i in w.tolist():
    b=sc.boxes[i].tolist(); o=sc.objects[i].tolist()
    gap=[max(b[0][k],b[1][k])-min(b[0][k+2],b[1][k+2]) for k in (0,1)] if sc.labels[i]==2 else None
    size=[(x[2]-x[0],x[3]-x[1]) for x in b]
    print(i,"true",int(sc.labels[i]),"seen",int(seen[i]),"digits",o,"size",size,"gap",gap,"p",[round(float(p),2) for p in lp[i].exp()])
