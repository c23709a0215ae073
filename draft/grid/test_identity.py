"""The identity against brute force over all 2^n subsets, in value and in gradient."""

import itertools

import torch
from latentbook.layers.distributions import presence_log_probs

from grid import Grid, GridConfig, bernoulli_kl, count_probs, expected_squared_error

torch.manual_seed(0)
c = GridConfig()
model = Grid(c).double()
n, side = 3, 36  # 9 cells, 512 subsets
images = torch.rand(n, 1, side, side, dtype=torch.float64)
patches = torch.rand(n, 9, c.patch, c.patch, dtype=torch.float64)
patches = patches * model.on_canvas(images)
logits = torch.randn(n, 9, dtype=torch.float64, requires_grad=True)
p = logits.sigmoid()
mean = model.add_up(p[..., None, None] * patches, side)
closed = expected_squared_error(images, mean, p, patches)
brute, kl, counts = 0, 0, torch.zeros(n, 10, dtype=torch.float64)
for b in itertools.product([0.0, 1.0], repeat=9):
    b = torch.tensor(b, dtype=torch.float64)
    chance = (p * b + (1 - p) * (1 - b)).prod(1)
    picture = model.add_up(b.view(1, -1, 1, 1) * patches, side)
    brute = brute + chance * (images - picture).square().sum((1, 2, 3))
    prior = (0.01 * b + 0.99 * (1 - b)).prod()
    kl = kl + chance * (chance / prior).log()
    counts[:, int(b.sum())] += chance.detach()
print("value", (closed / brute - 1).abs().max().item())
(a,) = torch.autograd.grad(closed.sum(), logits, retain_graph=True)
(g,) = torch.autograd.grad(brute.sum(), logits, retain_graph=True)
print("gradient", (a - g).abs().max().item(), "of", g.abs().max().item())
print(
    "kl",
    (bernoulli_kl(*presence_log_probs(logits), 0.01).sum(1) - kl).abs().max().item(),
)
print("counts", (count_probs(p.detach()) - counts).abs().max().item())
for value in (-200.0, 200.0):  # where presence rounds to 0 and 1
    logit = torch.full((1, 1), value, requires_grad=True)
    bernoulli_kl(*presence_log_probs(logit), 0.01).sum().backward()
    print("saturated", value, logit.grad.item())
