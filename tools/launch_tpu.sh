#!/usr/bin/env bash
# Starts a pretraining job on all workers of one or more Cloud TPU slices, watches it, and restarts it after a preemption.
# If the script itself is restarted, it continues to watch the job that it finds. docs/tpu.md is the guide.
set -euo pipefail

usage() {
  cat <<'END'
usage: tools/launch_tpu.sh OPTIONS -- RECIPE --workdir DIR [more options of bertlite pretrain]

  --name NAME               name of the queued resource (required)
  --zone ZONE               zone of the machines (required)
  --accelerator-type TYPE   the slice, as Google names it: v5litepod-16, v4-32, v5p-128, v6e-16 (required)
  --runtime-version NAME    image of the machines; by default the one that Google recommends for the type
  --wheel FILE              bertlite_jax, built by `pip wheel --no-deps .` (required)
  --project PROJECT         Google Cloud project; by default the one that gcloud is set to
  --slices N                number of slices, joined by the data-centre network; 1 by default
  --spot                    cheaper machines that Google may take away at any time
  --bucket BUCKET           mounted on every worker as `bucket` in the folder where the job starts
  --setup FILE              shell script that every worker runs first, for example to install gcsfuse
  --max-crashes N           restart the job at most N times after it crashes; 3 by default
  --poll-seconds S          seconds between two checks; 30 by default
  --keep                    keep the machines when the job has ended; they cost money until you delete them
  --dry-run                 print every command without running it

Exit codes: 0 the job is done, 2 a bad option or a config that the job refuses, 1 anything else.
END
}

fail() { # CODE MESSAGE
  echo "launch_tpu: $2" >&2
  exit "$1"
}

# --- Options ---------------------------------------------------------------------------------------------------------

name='' zone='' type='' runtime='' wheel='' project='' bucket='' setup='' recipe_file=''
slices=1 crashes_allowed=3 poll_seconds=30 spot='' keep='' dry=''
job=()

read_options() {
  while (($#)); do
    case $1 in
      --spot) spot=1 && shift && continue ;;
      --keep) keep=1 && shift && continue ;;
      --dry-run) dry=1 && shift && continue ;;
      -h | --help) usage && exit 0 ;;
      --) shift && job=("$@") && return ;;
    esac
    case $1 in
      --name | --zone | --accelerator-type | --runtime-version | --wheel | --project | --slices | --bucket | --setup | \
        --max-crashes | --poll-seconds) (($# > 1)) || fail 2 "$1 needs a value" ;;
      *) fail 2 "unknown option $1; tools/launch_tpu.sh --help lists them; the job's own options follow --" ;;
    esac
    case $1 in
      --name) name=$2 ;;
      --zone) zone=$2 ;;
      --accelerator-type) type=$2 ;;
      --runtime-version) runtime=$2 ;;
      --wheel) wheel=$2 ;;
      --project) project=$2 ;;
      --slices) slices=$2 ;;
      --bucket) bucket=${2#gs://} ;;
      --setup) setup=$2 ;;
      --max-crashes) crashes_allowed=$2 ;;
      --poll-seconds) poll_seconds=$2 ;;
    esac
    shift 2
  done
}

check_options() {
  [[ $name ]] || fail 2 "--name is missing"
  [[ $zone ]] || fail 2 "--zone is missing"
  [[ $type ]] || fail 2 "--accelerator-type is missing"
  [[ $wheel ]] || fail 2 "--wheel is missing; make one with: python -m pip wheel --no-deps --wheel-dir dist ."
  [[ -f $wheel ]] || fail 2 "$wheel does not exist; make it with: python -m pip wheel --no-deps --wheel-dir dist ."
  [[ ! $setup || -f $setup ]] || fail 2 "$setup does not exist"
  [[ $slices =~ ^[1-9][0-9]*$ ]] || fail 2 "--slices $slices is not a number of slices"
  [[ $crashes_allowed =~ ^[0-9]+$ ]] || fail 2 "--max-crashes $crashes_allowed is not a number"
  [[ $poll_seconds =~ ^[0-9]+$ ]] || fail 2 "--poll-seconds $poll_seconds is not a number of seconds"
  ((${#job[@]})) || fail 2 "no job; write -- RECIPE --workdir DIR after the options"
  if [[ -f ${job[0]} ]]; then
    recipe_file=${job[0]}
  else # The wheel has the recipes of configs/, by name.
    [[ ${job[0]} != */* && -f $(dirname "${BASH_SOURCE[0]}")/../configs/${job[0]}.py ]] ||
      fail 2 "the job's recipe ${job[0]} does not exist; name a file, or a recipe that bertlite recipes lists"
  fi
  [[ " ${job[*]} " == *" --workdir"[\ =]* ]] || fail 2 "the job has no --workdir; name a folder that outlives the machines"
  [[ $runtime ]] && return
  # Source: docs.cloud.google.com/tpu/docs/runtimes.
  case $type in
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v4-*) runtime=tpu-ubuntu2204-base ;;
    *) fail 2 "no image is known for $type; pass --runtime-version (TPU7x is not served by this API: docs/tpu.md)" ;;
  esac
}

# --- Commands to the cloud -------------------------------------------------------------------------------------------

say() { if [[ $dry ]]; then echo "# $1"; else echo "launch_tpu: $(date +%T) $1"; fi; }

cloud() { # SUBCOMMAND ARGUMENTS... : runs one command on the queued resource
  local all=(gcloud compute tpus queued-resources "$@" "--zone=$zone" --quiet)
  [[ $project ]] && all+=("--project=$project")
  if [[ $dry ]]; then quoted "${all[@]}"; else "${all[@]}"; fi
}

quoted() { # prints a command in a form that can be pasted
  local word line=''
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+=" $word"
  done
  echo "${line# }"
}

on_all() { cloud ssh "$name" --node=all --worker=all "--command=$1"; }

state() { # prints ACTIVE, SUSPENDED, ...; NONE if there is no such resource
  local errors
  errors=$(mktemp)
  if cloud describe "$name" '--format=value(state.state)' 2> "$errors"; then
    :
  elif grep -q NOT_FOUND "$errors"; then
    echo NONE
  else
    cat "$errors" >&2
    echo UNKNOWN
  fi
  rm -f "$errors"
}

create() {
  local options=("--accelerator-type=$type" "--runtime-version=$runtime")
  if ((slices > 1)); then options+=("--node-count=$slices" "--node-prefix=$name"); else options+=("--node-id=$name"); fi
  [[ $spot ]] && options+=(--spot)
  say "creating $name: $slices x $type in $zone"
  cloud create "$name" "${options[@]}"
}

delete() {
  say "deleting $name"
  cloud delete "$name" --force
}

# --- Commands on the workers -----------------------------------------------------------------------------------------
# Everything is in ~/bertlite: the package in env/, the bucket in bucket/, and the job's log, pid and exit_code.

install_commands() {
  local file=${wheel##*/}
  echo 'set -e; cd ~/bertlite'
  [[ $setup ]] && echo "bash ${setup##*/}"
  # The images' own Python is too old for the package.
  echo 'python3 -m pip install --quiet --user uv'
  echo '[ -x env/bin/python ] || python3 -m uv venv --quiet --python 3.11 env'
  echo "python3 -m uv pip install --quiet --python env/bin/python \"bertlite_jax[tpu,gcs] @ file://\$PWD/$file\""
  # Workers read what another one has just written, so nothing in the bucket may be cached.
  [[ $bucket ]] && echo "mkdir -p bucket; mountpoint -q bucket || gcsfuse --metadata-cache-ttl-secs=0 $bucket bucket"
  return 0
}

start_commands() { # Once there is an exit code the job has ended, even if its shell is still there for a moment.
  local words=("${job[@]:1}") line
  line="env/bin/bertlite pretrain ${job[0]##*/} --run.distributed $(quoted "${words[@]}")"
  cat <<END
cd ~/bertlite
if [ ! -s exit_code ] && [ -f pid ] && kill -0 \$(cat pid) 2>/dev/null; then exit 0; fi
rm -f exit_code; [ ! -f log ] || mv log log.before
cat > job.sh <<'JOB'
$line
echo \$? > exit_code
JOB
setsid nohup bash job.sh > log 2>&1 < /dev/null & echo \$! > pid
END
}

stop_commands() {
  cat <<'END'
cd ~/bertlite; [ -f pid ] || exit 0
kill -TERM -- -$(cat pid) 2>/dev/null || exit 0
for i in $(seq 60); do kill -0 -- -$(cat pid) 2>/dev/null || exit 0; sleep 1; done
kill -KILL -- -$(cat pid)
END
}

look_commands() { # If the process is gone, the exit code is checked again: the job may have ended in between.
  cat <<'END'
cd ~/bertlite
if [ ! -s exit_code ] && [ -f pid ] && kill -0 $(cat pid) 2>/dev/null; then echo job=running
elif [ ! -s exit_code ]; then echo job=lost
elif grep -q "stopped by a signal after step" log; then echo job=stopped
else echo job=ended:$(cat exit_code); fi
END
}

prepare() {
  say "installing on all workers"
  on_all 'mkdir -p ~/bertlite' &&
    cloud scp "$wheel" ${recipe_file:+"$recipe_file"} ${setup:+"$setup"} "$name:bertlite/" --node=all --worker=all &&
    on_all "$(install_commands)"
}

start() {
  say "starting the job on all workers"
  on_all "$(start_commands)"
}

job_status() { # prints done, running, stopped, crashed, refused or unreachable, from the answers of all workers
  local answers
  if ! answers=$(on_all "$(look_commands)" 2>&1); then
    echo unreachable
  elif [[ $answers == *job=ended:2* ]]; then
    echo refused
  elif [[ $answers =~ job=ended:[1-9] ]]; then
    echo crashed
  elif [[ $answers == *job=running* ]]; then
    echo running
  elif [[ $answers == *job=stopped* ]]; then
    echo stopped
  elif [[ $answers == *job=lost* ]]; then
    echo crashed
  elif [[ $answers == *job=ended:0* ]]; then
    echo "done"
  else
    echo unreachable
  fi
}

# --- The whole run ---------------------------------------------------------------------------------------------------

end() { # CODE MESSAGE
  cloud ssh "$name" --node=0 --worker=0 '--command=tail -n 20 ~/bertlite/log' || true
  if [[ $keep ]]; then say "$name still exists and costs money"; else delete; fi
  say "$2"
  exit "$1"
}

print_all() {
  say "if $name exists, continue with it, else create it; wait until it is ACTIVE (check every $poll_seconds s)"
  cloud describe "$name" '--format=value(state.state)'
  create
  prepare
  start
  say "every $poll_seconds s: check the machines and the job"
  cloud describe "$name" '--format=value(state.state)'
  on_all "$(look_commands)"
  say "after a preemption (SUSPENDED): delete, then create, install and start as above; the job resumes from its checkpoint"
  cloud delete "$name" --force
  say "after a crash: stop the job on all workers, then start as above (at most $crashes_allowed times)"
  on_all "$(stop_commands)"
  say "at the end"
  end 0 "done"
}

crashes=0
died() { # WHAT : counts crashes, and ends the run when there have been too many
  ((crashes++ < crashes_allowed)) || end 1 "$1, crash number $crashes; giving up, see above"
  say "$1 ($crashes of at most $crashes_allowed)"
}

check_job() { # one check of machines that exist
  local status
  status=$(job_status)
  if [[ $status == unreachable ]]; then  # New machines accept no connections for the first minute.
    say "not all workers answer"
    return
  fi
  if [[ ! $ready && $status != running ]]; then
    if prepare && start; then ready=1; else died "the installation failed"; fi
    return
  fi
  ready=1
  case $status in
    "done") end 0 "the job is done" ;;
    refused) end 2 "the job refuses its config or its data, see above" ;;
    stopped) say "the job was stopped and has saved" && start ;;
    crashed)
      died "the job crashed"
      on_all "$(stop_commands)" || true
      start
      ;;
  esac
}

ready=''
watch_job() {
  local now before=''
  while true; do
    now=$(state)
    [[ $now == "$before" ]] || say "$name is $now"
    case $now in
      NONE)
        ready=''
        create || fail 1 "$name could not be created, see above"
        ;;
      ACTIVE) check_job || say "a command failed, see above" ;;
      SUSPENDING | SUSPENDED) say "preempted" && delete && ready='' ;;
      FAILED) fail 1 "$name could not be provided; queued-resources describe $name says why; delete it before you try again" ;;
      UNKNOWN) [[ $before ]] || fail 1 "cannot get the state of $name, see above" ;;
    esac
    before=$now
    sleep "$poll_seconds"
  done
}

read_options "$@"
check_options
if [[ $dry ]]; then print_all; fi
command -v gcloud > /dev/null || fail 1 "gcloud is not installed on this machine"
watch_job
