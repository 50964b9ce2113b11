"""Trains a small neural network on the rows that dukou gives it.

The contract: read $DUKOU_DATA, learn the column $DUKOU_TARGET, take all chance from $DUKOU_SEED, leave
one file `model.*` in $DUKOU_OUTPUT. $DUKOU_CHAMPION, where there is one, is the model that serves now:
a retraining may go on from it. Any framework will do; this one uses scikit-learn.
"""

import os
from pathlib import Path

# Small matrices: handing them to other threads costs more than it gives. Must stand before NumPy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import joblib
import numpy as np
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

data = os.environ["DUKOU_DATA"]
with Path(data).open(encoding="utf-8") as file:
    columns = file.readline().strip().split(",")
rows = np.loadtxt(data, delimiter=",", skiprows=1, dtype=np.float32)
target = columns.index(os.environ["DUKOU_TARGET"])

model = make_pipeline(
    MinMaxScaler(),
    MLPClassifier(
        hidden_layer_sizes=(512, 256),
        early_stopping=True,
        max_iter=60,
        random_state=int(os.environ["DUKOU_SEED"]),
    ),
)
features, truth = np.delete(rows, target, axis=1), rows[:, target].astype(np.int64)
champion = os.environ["DUKOU_CHAMPION"]
if champion.endswith(".joblib"):
    # A warm start: what this script has left before goes on learning, on the rows of today.
    model = joblib.load(champion)
    network = model[-1].set_params(early_stopping=False)
    network.best_loss_ = np.inf  # Early stopping kept none, and `partial_fit` compares with it.
    for _ in range(30):
        network.partial_fit(model[:-1].transform(features), truth)
else:
    model.fit(features, truth)
joblib.dump(model, Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
print(f"learned from {len(rows)} rows")
