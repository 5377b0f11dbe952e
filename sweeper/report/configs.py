"""The config of stored trials, with the classes of users that their plan names."""

from __future__ import annotations

import pyarrow as pa

from sweeper import trainable
from sweeper.config.fields import Config
from sweeper.config.plugins import with_plugins
from sweeper.store.records import Record


def config_of(launch: Record, plan: pa.Table) -> type[Config]:
    """Return the config of the trials in rows of the plan of `launch`.

    Raises:
        UsageError: The trainable, or a class that the rows name, can't be imported here.
    """
    config = trainable.load(launch["trainable"], launch.get("code")).Config
    names = [
        (part, name)
        for part in config.parts
        for name in plan[f"{part}.name"].unique().to_pylist()
        if name is not None
    ]
    return with_plugins(config, names)
