"""tools/launch_tpu.sh with a simulated cloud: two workers are two folders, and ssh runs its command in them."""

import os
import pathlib
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence

import pytest

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "launch_tpu.sh"
JOB_OPTIONS = ("--workdir", "bucket/run")

GCLOUD = r"""#!/usr/bin/env bash
# compute tpus queued-resources VERB NAME ...
verb=$4 command=''
for word in "$@"; do [[ $word == --command=* ]] && command=${word#--command=}; done
echo "$verb ${*:5}" | head -n 1 >> "$CLOUD/calls"
case $verb in
  describe) [[ -f $CLOUD/broken ]] && { cat "$CLOUD/broken" >&2; exit 1; }
    if [[ -f $CLOUD/state ]]; then cat "$CLOUD/state"; else echo "ERROR: NOT_FOUND" >&2; exit 1; fi ;;
  create) [[ -f $CLOUD/state ]] && exit 1; echo ACTIVE > "$CLOUD/state"; mkdir -p "$CLOUD"/worker{0,1} ;;
  delete)
    for pid in "$CLOUD"/worker?/bertlite/pid; do [[ -f $pid ]] && kill -KILL -- "-$(cat "$pid")" 2> /dev/null; done
    rm -rf "$CLOUD"/worker? "$CLOUD/state" ;;
  scp) for home in "$CLOUD"/worker?; do cp "${@:5:2}" "$home/bertlite/"; done ;;
  ssh) if [[ -s $CLOUD/closed ]]; then sed -i 1d "$CLOUD/closed"; exit 255; fi
    for home in "$CLOUD"/worker?; do HOME=$home bash -c "$command" || exit 1; done ;;
esac
"""

PYTHON = r"""#!/usr/bin/env bash
echo "$*" >> "$CLOUD/python"
[[ $3 == venv ]] || exit 0
mkdir -p env/bin; cp "$CLOUD/bertlite" env/bin/; touch env/bin/python; chmod +x env/bin/*
"""

JOB = r"""#!/usr/bin/env bash
echo "$*" >> "$CLOUD/runs"
run=$(( ($(wc -l < "$CLOUD/runs") + 1) / 2 ))
until (( $(wc -l < "$CLOUD/runs") >= 2 * run )); do sleep 0.02; done  # Like a real job, it waits for the other worker.
"""


class Cloud:
    """A simulated cloud; its folder records calls, runs of the job, and uses of Python."""

    def __init__(self, folder: pathlib.Path, job: str):
        self.folder = folder
        (folder / "bin").mkdir()
        for name, text in (("bin/gcloud", GCLOUD), ("bin/python3", PYTHON), ("bertlite", JOB + job)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        for name in ("gcsfuse", "mountpoint"):
            (folder / "bin" / name).write_text(f'#!/bin/sh\necho "$0 $*" >> "$CLOUD/mounts"; [ {name} = gcsfuse ]\n')
            (folder / "bin" / name).chmod(0o755)
        (folder / "bertlite_jax-0.1.0-py3-none-any.whl").touch()
        (folder / "base.py").write_text("config = None\n")

        self.env = os.environ | {"CLOUD": str(folder), "PATH": f"{folder}/bin:{os.environ['PATH']}"}

    def start(self, *options: str, job: Sequence[str] = JOB_OPTIONS, recipe: str = "base.py") -> subprocess.Popen[str]:
        """The script, with what it needs and the given options."""
        command = [str(SCRIPT), "--name", "mine", "--zone", "us-west4-a", "--accelerator-type", "v5litepod-16"]
        command += ["--wheel", "bertlite_jax-0.1.0-py3-none-any.whl", "--poll-seconds", "0", *options]
        return subprocess.Popen(
            [*command, "--", recipe, *job],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def launch(
        self, *options: str, job: Sequence[str] = JOB_OPTIONS, recipe: str = "base.py"
    ) -> subprocess.CompletedProcess[str]:
        """The script run to its end."""
        with self.start(*options, job=job, recipe=recipe) as process:
            try:
                out, err = process.communicate(timeout=300)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def paste(self, commands: str) -> None:
        """Gives commands to a shell, as a person would."""
        subprocess.run(["bash", "-c", commands], cwd=self.folder, env=self.env, capture_output=True, timeout=300)

    def lines(self, name: str) -> list[str]:
        return (self.folder / name).read_text().splitlines() if (self.folder / name).exists() else []

    def wait_for(self, pattern: str, count: int) -> None:
        """Until that many files are there."""
        end = time.monotonic() + 60
        while len(found := list(self.folder.glob(pattern))) < count:
            assert time.monotonic() < end, f"only {found} in a minute"
            time.sleep(0.02)

    def verbs(self) -> list[str]:
        """The calls that changed something, in order."""
        return [verb for line in self.lines("calls") if (verb := line.split()[0]) in ("create", "delete", "scp")]


@pytest.fixture
def cloud(tmp_path):
    return lambda job: Cloud(tmp_path, job)


def test_the_job_runs_on_all_workers_and_the_machines_are_deleted(cloud):
    there = cloud('echo "summary 0.5"; exit 0')
    done = there.launch("--bucket", "gs://mine", job=("--workdir", "bucket/run", "--data.corpus", "gs://mine/it's a"))
    assert done.returncode == 0, done.stderr
    assert "the job is done" in done.stdout
    assert "summary 0.5" in done.stdout
    # "$*" shows the words as one, so the quotes are gone.
    words = "pretrain base.py --run.distributed --workdir bucket/run --data.corpus gs://mine/it's a"
    assert there.lines("runs") == [words, words]
    assert there.verbs() == ["create", "scp", "delete"]
    assert (
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite --node-id=mine"
        in there.lines("calls")[1]
    )
    assert sum("gcsfuse --metadata-cache-ttl-secs=0 mine bucket" in line for line in there.lines("mounts")) == 2
    assert sum("bertlite_jax[tpu,gcs] @ file:///" in line for line in there.lines("python")) == 2


def test_after_a_preemption_the_machines_are_made_anew_and_the_same_command_runs(cloud):
    there = cloud('if ((run == 1)); then echo SUSPENDED > "$CLOUD/state"; sleep 60; fi')
    done = there.launch("--spot")
    assert done.returncode == 0, done.stderr
    assert "preempted" in done.stdout
    assert there.verbs() == ["create", "scp", "delete", "create", "scp", "delete"]
    assert len(there.lines("runs")) == 4
    assert len(set(there.lines("runs"))) == 1
    assert all("--spot" in line for line in there.lines("calls") if line.startswith("create"))


def test_a_job_that_was_stopped_and_has_saved_is_started_again(cloud):
    there = cloud('((run > 1)) || echo "pretrain: stopped by a signal after step 7, which is saved"')
    done = there.launch()
    assert done.returncode == 0, done.stderr
    assert there.verbs() == ["create", "scp", "delete"]
    assert len(there.lines("runs")) == 4


@pytest.mark.thorough
def test_a_job_that_dies_is_started_again_a_few_times(cloud):
    there = cloud('echo "run $run dies"; exit 1')
    done = there.launch("--max-crashes", "2")
    assert done.returncode == 1
    assert len(there.lines("runs")) == 6
    assert "run 3 dies" in done.stdout
    assert there.verbs() == ["create", "scp", "delete"]


@pytest.mark.thorough
def test_what_is_left_of_a_dead_job_is_stopped_first(cloud):
    """One worker dies and the other waits for it; unless it is stopped, it is mistaken for the restarted job."""
    there = cloud("if ((run == 1)); then [[ $HOME == *worker0 ]] && exit 137; sleep 60; fi")
    done = there.launch()
    assert done.returncode == 0, done.stderr
    assert len(there.lines("runs")) == 4


def test_a_job_that_has_ended_is_started_again_though_its_shell_is_still_there(cloud):
    """Its shell lives on for a moment after the exit code; a worker that took it for running would block the others."""
    there = cloud("exit 0")
    with subprocess.Popen(["sleep", "60"]) as shell:
        for worker in ("worker0", "worker1"):
            place = there.folder / worker / "bertlite"
            place.mkdir(parents=True)
            (place / "pid").write_text(f"{shell.pid}\n")
            (place / "exit_code").write_text("0\n")
            (place / "log").write_text("pretrain: stopped by a signal after step 7, which is saved\n")
        (there.folder / "state").write_text("ACTIVE\n")
        done = there.launch()
        shell.kill()
    assert done.returncode == 0, done.stderr
    assert len(there.lines("runs")) == 2


@pytest.mark.thorough
def test_a_job_that_ends_while_it_is_looked_at_is_not_lost(cloud):
    """The job ends between the check for an exit code and the check whether the process is alive."""
    there = cloud('until [[ -f "$CLOUD/asked" ]]; do sleep 0.02; done')
    ends = 'touch "$CLOUD/asked"; for i in {1..500}; do builtin kill "$@" || return; sleep 0.02; done'
    there.env["BASH_FUNC_kill%%"] = f"() {{ {ends}; }}"
    done = there.launch("--max-crashes", "0")
    assert done.returncode == 0, done.stdout
    assert len(there.lines("runs")) == 2


def test_a_config_that_the_job_refuses_is_not_tried_again(cloud):
    there = cloud('echo "config: model.num_heads = 10 does not divide"; exit 2')
    done = there.launch()
    assert done.returncode == 2
    assert len(there.lines("runs")) == 2
    assert "does not divide" in done.stdout
    assert there.verbs()[-1] == "delete"


def test_started_again_the_script_goes_on_watching_what_is_there(cloud):
    there = cloud('until [[ -f "$CLOUD/enough" ]]; do sleep 0.02; done')
    with there.start() as first:
        there.wait_for("worker?/bertlite/pid", 2)
        first.terminate()
    there.wait_for("worker?/bertlite/pid", 2)
    with there.start() as second:
        assert "mine is ACTIVE" in second.stdout.readline()
        looks = len(there.lines("calls"))
        while len(there.lines("calls")) < looks + 4:
            time.sleep(0.02)
        (there.folder / "enough").touch()
        out, err = second.communicate(timeout=300)
    assert second.returncode == 0, err
    assert "the job is done" in out
    assert there.verbs() == ["create", "scp", "delete"]
    assert len(there.lines("runs")) == 2


def test_machines_that_let_nobody_in_at_first_are_waited_for(cloud):
    there = cloud("exit 0")
    (there.folder / "closed").write_text("no\n" * 6)
    done = there.launch("--max-crashes", "0")
    assert done.returncode == 0, done.stderr
    assert "not all workers answer" in done.stdout
    assert there.verbs() == ["create", "scp", "delete"]


def test_a_cloud_that_cannot_be_asked_is_not_asked_for_machines(cloud):
    there = cloud("exit 0")
    (there.folder / "broken").write_text("ERROR: (gcloud) You do not currently have an active account selected.\n")
    done = there.launch()
    assert done.returncode == 1
    assert "active account" in done.stderr
    assert there.verbs() == []


def test_machines_that_cannot_be_had_end_the_run(cloud):
    there = cloud("exit 0")
    (there.folder / "state").write_text("FAILED\n")
    done = there.launch()
    assert done.returncode == 1
    assert "could not be provided" in done.stderr


def test_several_slices_are_one_queued_resource_of_several_nodes(cloud):
    there = cloud("exit 0")
    assert there.launch("--slices", "2").returncode == 0
    created = next(line for line in there.lines("calls") if line.startswith("create"))
    assert "--node-count=2 --node-prefix=mine" in created
    assert "--node-id" not in created
    assert all("--node=all --worker=all" in line for line in there.lines("calls") if line.startswith("scp"))


def test_a_dry_run_prints_every_command_and_gives_none(cloud):
    there = cloud("exit 0")
    done = there.launch("--dry-run", "--bucket", "mine", "--spot")
    assert done.returncode == 0
    assert not there.lines("calls")
    assert not there.lines("runs")
    printed = [
        line.split()[4] for line in done.stdout.splitlines() if line.startswith("gcloud compute tpus queued-resources")
    ]
    assert printed == [
        "describe",
        "create",
        "ssh",
        "scp",
        "ssh",
        "ssh",
        "describe",
        "ssh",
        "delete",
        "ssh",
        "ssh",
        "delete",
    ]
    assert "bertlite pretrain base.py --run.distributed --workdir bucket/run" in done.stdout


def test_what_a_dry_run_prints_can_be_pasted(cloud):
    """The printed commands do in a shell what the script does; the machines are deleted when the job has ended."""
    there = cloud("exit 0")
    first, after, then = there.launch("--dry-run").stdout.partition("# after a preemption")
    there.paste(first)
    there.wait_for("worker?/bertlite/exit_code", 2)
    there.paste(after + then)
    assert there.verbs() == ["create", "scp", "delete", "delete"]
    assert len(there.lines("runs")) == 2


def test_a_recipe_of_the_package_is_given_by_name_and_not_copied(cloud):
    """It is in the wheel."""
    done = cloud("exit 0").launch("--dry-run", recipe="albert_base")
    assert "bertlite pretrain albert_base --run.distributed --workdir bucket/run" in done.stdout
    (copied,) = [line for line in done.stdout.splitlines() if " queued-resources scp " in line]
    assert " scp bertlite_jax-0.1.0-py3-none-any.whl mine:bertlite/ " in copied


@pytest.mark.parametrize("recipe", ["albert_bse", "mine.py", "../configs/albert_base"])
def test_a_recipe_that_is_nowhere_is_refused_before_a_machine_is_made(cloud, recipe):
    there = cloud("exit 0")
    done = there.launch(recipe=recipe)
    assert done.returncode == 2
    line = f"the job's recipe {recipe} does not exist; name a file, or a recipe that bertlite recipes lists"
    assert done.stderr == f"launch_tpu: {line}\n"
    assert not there.lines("calls")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--spott"], "unknown option --spott"),
        (["--slices", "two"], "--slices two is not a number"),
        (["--slices", "0"], "--slices 0 is not a number"),
        (["--wheel", "missing.whl"], "missing.whl does not exist"),
        (["--setup", "missing.sh"], "missing.sh does not exist"),
        (["--accelerator-type", "tpu7x-16"], "no image is known for tpu7x-16"),
        (["--name", ""], "--name is missing"),
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(cloud, options, says):
    there = cloud("exit 0")
    done = there.launch(*options)
    assert done.returncode == 2
    assert done.stderr.startswith("launch_tpu: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    assert not there.lines("calls")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--name"], "--name needs a value"),
        ([], "--name is missing"),
        (["--name", "a", "--zone", "b", "--accelerator-type", "v4-8", "--wheel", str(SCRIPT)], "no job"),
        (
            ["--name", "a", "--zone", "b", "--accelerator-type", "v4-8", "--wheel", str(SCRIPT), "--", str(SCRIPT)],
            "the job has no --workdir",
        ),
    ],
)
def test_what_is_missing_is_named(arguments, says):
    done = subprocess.run([str(SCRIPT), *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_script_is_clean_bash():
    assert os.stat(SCRIPT).st_mode & stat.S_IXUSR
    assert subprocess.run(["bash", "-n", str(SCRIPT)], capture_output=True).stderr == b""
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
