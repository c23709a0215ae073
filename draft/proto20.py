"""proto20.py WORLD SEED key=value ... : one run on training digits, counted on 5,000 validation scenes."""
import sys, json, time, torch, dataclasses
torch.set_num_threads(1)
from latentbook.data import load_digits, train_validation_split
from latentbook.data.scenes import draw_scenes, Layout, make_sprites
from latentbook.experiments import air
from latentbook.experiments.air_measures import Counting, accuracy, count_log_probs, confusion
from latentbook.experiments.run import but
from latentbook.layers.distributions import count_posterior
world, seed = sys.argv[1], int(sys.argv[2])
o = dict(a.split("=") for a in sys.argv[3:])
import os
if "fv" in o: os.environ["FV"] = o.pop("fv")
base = {"uniform": but(air.EXACT), "diagonal": air.VARIANTS["exact-diagonal"], "equal": but(air.EXACT, layout=air.UNIFORM),
 "sprites": but(air.EXACT, world="sprites"), "three": but(air.EXACT, layout=air.TO_THREE, measured=air.THREE, steps=4)}[world]
base = but(base, floor=float(o.pop("floor", 0)), explore=float(o.pop("e", .7)), floor_steps=int(o.pop("fs", 1500)))
steps = int(o.pop("steps", 1600)); base = dataclasses.replace(base, epochs=steps // 25)
if "scale" in o: base = but(base, where_mean=(float(o.pop("scale")), 0., 0.))
if "lr" in o: base = dataclasses.replace(base, learning_rate=float(o.pop("lr")))
opt = {"rate_factors": {"what": float(o.pop("wr"))}} if "wr" in o else {}
ch = {k: (v == "True" if v in ("True", "False") else float(v) if "." in v else int(v)) for k, v in o.items()}
c = but(base, **ch) if ch else base
train, val = train_validation_split(load_digits("train"))
made = air.objects(c, val) if c.world == "digits" else make_sprites(5000, seed=2, split="train")
sc = draw_scenes(made, 5000, c.measured or c.layout, 5)
t = time.time(); hook = Counting(sc.take(slice(0, 1000)))
m, h = air.train(c, train, seed, hooks=[hook], progress=False, **opt)
torch.save(m.state_dict(), f"st-{world}-{seed}-{'_'.join(sys.argv[3:]).replace('=','')}.pth")
seen = count_log_probs(m.eval(), sc.images).argmax(1)
cf = confusion(seen, sc.labels, c.model.steps)
r = dict(world=world, seed=seed, args=sys.argv[3:], acc=round(accuracy(seen, sc.labels), 4), under=round(cf["undercounts"], 4), over=round(cf["overcounts"], 4), to98=hook.metrics()["steps_to_98"], s=round(time.time() - t))
open("proto.txt", "a").write(json.dumps(r) + "\n"); print(r)
