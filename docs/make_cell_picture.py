"""Draw docs/images/cell.svg: the delays of one cell's seeds, and its median.

The numbers are those of the worked example in docs/cells.md; tests/test_cells.py reads the example
from there and compares it with the views.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("svg")

import matplotlib.pyplot as plt

SEEDS = (
    # seed, (lower end of the delay, estimate, upper end)
    (0, (1249, 1404, 1577)),
    (1, (1985, 2230, 2504)),
    (2, (1572, 1767, 1985)),
    (3, (9990, None, None)),
    (4, (2502, 2809, 3154)),
)
DELAY, LOW = 2230, 1249


def main() -> None:
    """Write the picture."""
    mpl.rcParams.update({"svg.hashsalt": "cell", "svg.fonttype": "none", "font.size": 9})
    figure, ax = plt.subplots(figsize=(7.2, 2.9), layout="constrained")
    for row, (_, (low, middle, high)) in enumerate(reversed(SEEDS)):
        if middle is None:
            ax.annotate(
                "", (13500, row), (low, row), arrowprops={"arrowstyle": "->", "color": "#4a6fa5"}
            )
            ax.plot([low], [row], "|", color="#4a6fa5", markersize=10)
            ax.text(low, row + 0.28, "> 9990 (memorization)", ha="center", color="#4a6fa5")
        else:
            ax.plot([low, high], [row, row], color="#f2b447", linewidth=5, solid_capstyle="butt")
            ax.plot([middle], [row], "o", color="#7a5200", markersize=4)
            ax.text(middle, row + 0.28, str(middle), ha="center", color="#7a5200")
    ax.axvline(DELAY, color="#333333", linewidth=1)
    ax.text(DELAY, len(SEEDS) - 0.3, f" delay = {DELAY}", va="bottom")
    ax.axvspan(LOW, 16000, color="#333333", alpha=0.06, linewidth=0)
    ax.text(5200, -0.62, "interval: > 1249, range of 5 seeds, 93.8 %", ha="center", color="#555555")
    ax.set(
        xscale="log",
        xlim=(1000, 16000),
        ylim=(-0.8, len(SEEDS)),
        yticks=range(len(SEEDS)),
        yticklabels=[f"seed {seed}" for seed, _ in reversed(SEEDS)],
        xlabel="delay t2 - t1 in optimizer steps (phase: grokking, 4 of 5 seeds)",
    )
    ax.set_xticks([1000, 2000, 5000, 10000], ["1000", "2000", "5000", "10000"])
    ax.tick_params(which="minor", labelbottom=False)
    ax.spines[["top", "right"]].set_visible(False)
    path = Path(__file__).parent / "images" / "cell.svg"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
