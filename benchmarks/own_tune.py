"""The side of Ray Tune in `benchmarks.own_code`: ``own_tune.py TRIALS SECONDS ROWS``.

A class trainable whose actors are reused would be called once per row, as Tune calls `step`; a
function is what most people write. Actors are reused, and Tune's own loggers store every row, as
they do by default.
"""

from __future__ import annotations

import sys
import tempfile

import ray
from ray import tune

from benchmarks.own_trial import tune_train


def main() -> None:
    """Run the trials, and check that Tune has taken every row."""
    trials, seconds, rows = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    ray.init(include_dashboard=False, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(tune_train, {"cpu": 1}),
            param_space={
                "seconds": seconds,
                "rows": rows,
                "number": tune.grid_search(list(range(trials))),
            },
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        results = tuner.fit()
        seen = [len(result.metrics_dataframe) for result in results]
    if seen != [rows] * trials:
        raise RuntimeError(f"rows of the trials: {seen}")


if __name__ == "__main__":
    main()
