"""The state of a trial as bytes."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sweeper.runs.state import StateError, decode, encode

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_values_come_back_with_their_types(value: Any) -> None:
    again = decode(encode(value))
    assert again == value
    assert repr(again) == repr(value)


def test_a_state_of_training_comes_back_bit_equal() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    numbers = np.random.default_rng(1)
    state: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "half": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
        "empty": torch.zeros(0, 3, dtype=torch.bfloat16),
        "scalar": torch.tensor(2.5, dtype=torch.bfloat16),
        "turned": torch.arange(6.0).reshape(2, 3).t(),
        "rng": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": numbers.bit_generator.state,
        "array": np.arange(4, dtype=np.int8).reshape(2, 2),
        "number": np.float32(0.1),
        "nan": float("nan"),
    }
    again = decode(encode(state))
    torch.testing.assert_close(again["model"], dict(state["model"]), rtol=0, atol=0)
    for name in ("half", "empty", "scalar", "turned", "rng"):
        assert again[name].dtype == state[name].dtype
        assert again[name].shape == state[name].shape
        assert torch.equal(again[name], state[name])
    optimizer.load_state_dict(again["optimizer"])
    random.setstate(again["python"])
    numbers.bit_generator.state = again["numpy"]
    assert again["array"].dtype == np.int8
    assert isinstance(again["number"], np.float32)
    assert again["nan"] != again["nan"]


def test_what_cannot_be_saved_is_named_with_its_place() -> None:
    with pytest.raises(StateError, match=r"state\['a'\]\[1\] is of the type object"):
        encode({"a": [0, object()]})
    with pytest.raises(StateError, match="is an array of Python objects"):
        encode({"a": np.array([object()])})


class Evil:
    ran = False

    def __reduce__(self) -> Any:
        return (setattr, (Evil, "ran", True))


def test_loading_runs_no_code() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("state.json", json.dumps({"version": 1, "state": ["array", 0]}))
        inner = io.BytesIO()
        np.save(inner, np.array([Evil()], dtype=object), allow_pickle=True)
        archive.writestr("0.npy", inner.getvalue())
    for bad in (content.getvalue(), pickle.dumps(Evil()), b"", b"PK\x03\x04 torn"):
        with pytest.raises(StateError, match="isn't one of a script or a function"):
            decode(bad)
    assert not Evil.ran


def test_a_newer_version_is_refused() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("state.json", json.dumps({"version": 2, "state": None}))
    with pytest.raises(StateError, match="written by a newer version"):
        decode(content.getvalue())
