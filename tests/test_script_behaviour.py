"""What users' scripts do beside their training, and many rows, metrics and fields of one."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from sweeper.errors import ConfigError, UsageError
from tests.labs import HEAD, Lab
from tests.test_scripts import EXPECTED, lab

__all__ = ["lab"]


@pytest.mark.long
@pytest.mark.parametrize(
    "middle",
    [
        "os.chdir('/')",
        "pid = os.fork(); os._exit(0) if pid == 0 else os.waitpid(pid, 0)",
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        "Path('sweeps/lab/log').mkdir(parents=True, exist_ok=True); "
        "Path('sweeps/lab/log/notes.txt').write_text('mine')",
        "os.environ.clear()",
        "os.close(0)",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "sys.stdout.close()",
        "random.seed(1)",
    ],
)
def test_what_scripts_do_beside_training_does_no_harm(middle: str, lab: Lab) -> None:
    once = f"if step == 3 and not run._settings.check: {middle}"
    lab.script(middle=once, head="import random, subprocess\n" + HEAD)
    begun = time.monotonic()
    lab.launch("lr=0.5", "seeds=1")
    assert [(e["status"], e["last_step"]) for e in lab.ends()] == EXPECTED[2:3]
    assert time.monotonic() - begun < 30
    assert lab.launch("lr=0.5", "seeds=1").counts.done == 1


def test_a_process_that_a_script_leaves_behind_ends_with_it(lab: Lab) -> None:
    daemon = "import time; time.sleep(60)"
    lab.script(
        end=f"Path('pid').write_text(str(subprocess.Popen([sys.executable, '-c', {daemon!r}]).pid))",
        head="import subprocess\n" + HEAD,
    )
    lab.launch("lr=0.1", "seeds=1")
    pid = int(Path("pid").read_text())
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_forked_process_that_logs_is_told_so(lab: Lab) -> None:
    lab.script(
        middle="pid = os.fork() if step == 3 else 1\n"
        "    if pid == 0:\n"
        "        try: run.log(step, a=1)\n"
        "        except Exception as error: print(error, flush=True)\n"
        "        os._exit(0)"
    )
    lab.launch("lr=0.1", "seeds=1")
    (output,) = lab.outputs()
    assert "a process that was forked from the training can't use its run" in output
    assert lab.rows().num_rows == 20


def test_init_a_second_time_is_refused(lab: Lab) -> None:
    lab.script(head=HEAD + "sweeper.init(lr=0.1)\n")
    with pytest.raises(UsageError, match="was called twice in one trial"):
        lab.launch()


def test_many_metrics_and_rows_that_are_not_finite(lab: Lab) -> None:
    lab.raw(
        """
        import sweeper
        run = sweeper.init(lr=0.1)
        for step in run.steps(20):
            values = {f"m{k}": k + step for k in range(500)}
            run.log(step, values, train_acc=0, test_acc=float("nan"), norm=float("inf"))
        """
    )
    lab.launch("lr=0.1", "seeds=1")
    table = lab.rows()
    assert table["m499"].to_pylist() == [499.0 + k for k in range(20)]
    assert table["norm"].null_count == table["test_acc"].null_count == 20


@pytest.mark.long
def test_a_million_rows_of_one_trial(lab: Lab) -> None:
    lab.raw(
        """
        import sweeper
        run = sweeper.init(lr=0.1)
        for step in run.steps():
            run.log(step, train_acc=0, test_acc=0)
        """
    )
    lab.launch("lr=0.1", "seeds=1", "steps=1000000", "checkpoint.every_s=60")
    assert lab.rows()["step"].to_pylist() == list(range(1_000_000))


def test_a_field_that_the_sweep_fills_in_cannot_be_set(lab: Lab) -> None:
    lab.script(head=HEAD.replace("depth=1", "random_state=0"))
    with pytest.raises(ConfigError, match="random_state can't be set: every"):
        lab.grid("random_state=3")


def test_a_script_takes_its_seed_its_horizon_and_its_device_from_the_sweep(lab: Lab) -> None:
    head = HEAD.replace("depth=1", "random_state=0, max_iters=5, device='cuda'")
    lab.script(head=head, middle="print(run.config)")
    lab.launch("lr=0.2", "seeds=[7]")
    first = lab.outputs()[0].splitlines()[0]
    assert first == "Values(lr=0.2, random_state=7, max_iters=20, device='cpu')"


def test_a_script_may_take_its_time_after_the_loop(lab: Lab) -> None:
    lab.raw(
        """
        import time
        import sweeper

        def main():
            run = sweeper.init(lr=0.1)
            for step in run.steps():
                run.log(step, train_acc=0, test_acc=0)

        main()
        time.sleep(3)
        print("at last")
        """
    )
    assert lab.launch("lr=0.1", "seeds=1").counts.done == 1
    assert lab.outputs() == ["at last\n"]
