#!/usr/bin/env bash
# Runs on a TPU VM, where tpu_vm.sh and tpu_pod.sh call it over ssh; nobody needs to by hand.
#
#   bash jaxreid/launch/on_vm.sh install | start [--restarts N] -- ... | follow | state | --dry_run
#
# Hardware, time and cost: those of the script that calls it.
# start leaves the training running without the connection; its log, its process and its exit code
# are in ~/jaxreid-run. Python 3.11, where the machine has none so new (Ubuntu 22.04 has 3.10), comes
# from uv, which pip installs for this user.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

notes="$HOME/jaxreid-run"

install() {
  if ! is_dry && [ -z "${JAXREID:-}" ] && ! find_python >/dev/null 2>&1; then
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet uv
    python3 -m uv python install --quiet 3.11
    PYTHON="$(python3 -m uv python find 3.11)"
    export PYTHON
  fi
  set_up_program tpu gcs
}

# What the machine knows of its slice; nothing outside Google Cloud.
metadata() {
  curl --silent --fail --max-time 5 --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1" || true
}

# Sets `hosts` and `worker`, this one's number among them.
find_hosts() {
  IFS=, read -ra hosts <<<"$(metadata worker-network-endpoints)"
  [ ${#hosts[@]} -gt 0 ] || hosts=(localhost)
  worker="$(metadata agent-worker-number)"
  worker="${worker:-0}"
}

is_running() {
  local pid
  pid="$(cat "$notes/pid" 2>/dev/null)" || return 1
  # After a reboot the number may be another program's.
  grep -qs on_vm.sh "/proc/$pid/cmdline"
}

start() {
  local command
  command="$(quoted "${train[@]}")"
  if is_running; then
    [ "$(cat "$notes/command")" = "$command" ] ||
      refuse "another training runs here: $(cat "$notes/command"). Wait for it, or delete the VM."
    return
  fi
  install
  mkdir -p "$notes"
  rm -f "$notes/code"
  echo "$command" >"$notes/command"
  printf '\n--- %s: jaxreid train %s\n' "$(date -u +%FT%TZ)" "$command" >>"$notes/log"
  setsid nohup bash "$0" supervise --restarts "${opt[restarts]}" -- "${train[@]}" \
    >>"$notes/log" 2>&1 </dev/null &
  echo $! >"$notes/pid"
}

# One host starts again by itself. Several, which JAX lets find each other by the metadata too, must
# start again together: the launcher does it.
supervise() {
  local code=0
  trap : TERM # the training gets it too, and has a code to leave
  install
  find_hosts
  cd "$ROOT"
  if [ ${#hosts[@]} -eq 1 ]; then
    JAXREID="$program" bash launch/local.sh --restarts "${opt[restarts]}" -- \
      "${train[@]}" || code=$?
  else
    "$program" train "${train[@]}" || code=$?
  fi
  echo "$code" >"$notes/code.new"
  mv "$notes/code.new" "$notes/code"
}

follow() {
  if is_running; then
    tail -n 100 -F --sleep-interval=0.2 --pid="$(cat "$notes/pid")" "$notes/log"
  else
    tail -n 100 "$notes/log"
  fi
}

# One line: running, a code, gone (it ended without leaving a code) or none.
state() {
  local now=none
  if is_running; then
    now=running
  elif [ -e "$notes/code" ]; then
    now="code $(cat "$notes/code")"
  elif [ -e "$notes/pid" ]; then
    now=gone
  fi
  find_hosts
  echo "jaxreid-worker $worker of ${#hosts[@]}: $now"
}

opt+=([restarts]=0)
trains=yes
what="${1:-}"
[ $# -eq 0 ] || shift
parse "$@"
case "$what" in
  install | start | supervise | follow | state | is_running) "$what" ;;
  --help) help ;;
  --dry_run)
    opt[dry_run]=yes
    needs_training gs://BUCKET/runs/one
    install
    run setsid nohup bash "$0" supervise --restarts 3 -- "${train[@]}"
    run bash launch/local.sh --restarts 3 -- "${train[@]}"
    ;;
  *) refuse "'$what' is not known here. It takes install, start, follow or state." ;;
esac
