"""Controls on the 1,000 scenes that run.py measures: components, ink, untrained."""

import json

from latentbook.training.loop import initialise

from run import *

torch.set_num_threads(1)
digits, kept = train_validation_split(load_digits("train"))
for overlap, canvas in ((0.2, 84), (0.0, 90)):
    layout = Layout(canvas, 18, tuple(range(2, 10)), overlap=overlap)
    truth = Truth(kept, 1000, layout, 1)
    print(
        overlap,
        canvas,
        "ink in several boxes",
        float(((truth.held_by > 1) & truth.ink).sum() / truth.ink.sum()),
    )
    for threshold in (0.1, 0.2, 0.3, 0.4):
        print("components", threshold, json.dumps(components(truth, threshold)))
    print("ink", json.dumps(ink_control(Truth(digits, 4000, layout, 5), truth)))
    if canvas == 84:
        f = measure(initialise(lambda: Grid(), 0), truth)
        print("untrained", json.dumps(f))
        all_on = initialise(lambda: Grid(GridConfig(first_presence=2.0)), 0)
        print("untrained, all cells present", json.dumps(measure(all_on, truth)))
