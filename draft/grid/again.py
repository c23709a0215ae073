"""Measure the saved models of both seeds again; scenes without overlap besides."""
import json
from run import *

torch.set_num_threads(1)
_, kept = train_validation_split(load_digits("train"))
same = Truth(kept, 1000, Layout(84, 18, tuple(range(2, 10)), overlap=0.2), 1)
apart = Truth(kept, 1000, Layout(84, 18, tuple(range(2, 10)), overlap=0.02), 1)
for name in ("h0.pt", "h1.pt"):
    model = Grid()
    model.load_state_dict(torch.load(name))
    print(name, "same", json.dumps(measure(model, same)))
    print(name, "overlap 0.02", json.dumps(measure(model, apart)))
print("components, overlap 0.02", {t: {k: round(v, 4) for k, v in components(apart, t).items()} for t in (0.2, 0.3, 0.4)})
