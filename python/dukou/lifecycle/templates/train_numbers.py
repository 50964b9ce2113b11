"""Trains a ridge regression on the rows that dukou gives it.

The contract: read $DUKOU_DATA, learn the column $DUKOU_TARGET, take all chance from $DUKOU_SEED (this one
has none), leave one file `model.*` in $DUKOU_OUTPUT. Any framework will do; this one uses scikit-learn.
"""

import os
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

data = os.environ["DUKOU_DATA"]
with Path(data).open(encoding="utf-8") as file:
    columns = file.readline().strip().split(",")
rows = np.loadtxt(data, delimiter=",", skiprows=1)
target = columns.index(os.environ["DUKOU_TARGET"])

model = make_pipeline(StandardScaler(), Ridge(alpha=10.0))
model.fit(np.delete(rows, target, axis=1).astype(np.float32), rows[:, target])
joblib.dump(model, Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
print(f"learned from {len(rows)} rows")
