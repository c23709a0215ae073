"""What kind the count errors are, of a saved model."""
import sys, torch
from grid import *; from run import *
torch.set_num_threads(1)
m=Grid(GridConfig(**eval(sys.argv[2]) if len(sys.argv)>2 else {})); m.load_state_dict(torch.load(sys.argv[1]))
_,kept=train_validation_split(load_digits("train"))
t=Truth(kept,400,Layout(84,18,tuple(range(2,10)),overlap=.2),1)
p,owner=look(m.eval(),t.images); seen=(p>.5).sum(1)
kinds={"missed":0,"dup":0,"merged":0,"ghost":0,"split":0,"ok":0}
import collections
for i in range(400):
    K=int(t.counts[i]); on=(p[i]>.5).nonzero().flatten().tolist()
    M=torch.zeros(K,49)
    for k in range(K):
        for c in on: M[k,c]=((t.owner[i]==k)&t.ink[i]&(owner[i]==c)).sum()
    size=torch.tensor([float(((t.owner[i]==k)&t.ink[i]).sum()) for k in range(K)])
    main=M.argmax(1)
    for k in range(K):
        cover=M[k].sum()/size[k]
        if cover<.3: kinds["missed"]+=1
        elif (main==main[k]).sum()>1: kinds["merged"]+=1
        else: kinds["ok"]+=1
    extra=[c for c in on if c not in main.tolist()]
    for c in extra:
        s=(M[:,c]/size).max()
        kinds["ghost" if s<.05 else "dup" if s<.25 else "split"]+=1
print(kinds, int(t.counts.sum()), "acc",float((seen==t.counts).float().mean()))
