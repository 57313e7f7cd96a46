# Sourced by tpu_vm.sh and tpu_pod.sh: copies the checkout to all workers of a slice, starts the
# training there without the connection, follows it and reads how it ended.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# Only what a training needs leaves this machine: no data, no run, no file of keys.
COPIED=(LICENSE README.md pyproject.toml configs jaxreid launch tfds_builders)
ON_VM="bash jaxreid/launch/on_vm.sh"
INSTALL="$ON_VM is_running 2>/dev/null || { mkdir -p jaxreid && cd jaxreid && rm -rf ${COPIED[*]}"
INSTALL+=" && tar -xzf ../jaxreid.tgz && bash launch/on_vm.sh install; }"
opt+=([name]=jaxreid [zone]="" [project]="" [type]="" [version]="" [restarts]=3 [poll_seconds]=30)
opt+=([spot]=no [delete]=no)
trains=yes
tries=20

# The options that both scripts share, checked.
parse_tpu() {
  parse "$@"
  required zone "a zone of Google Cloud that has the TPU type" us-west4-a
  whole restarts 0
  whole poll_seconds 0
  [[ "${opt[name]}" =~ ^[a-z]([a-z0-9-]{0,60}[a-z0-9])?$ ]] ||
    refuse "--name is '${opt[name]}'; it takes small letters, digits and dashes, for example" \
      "--name ssan-1."
  where=(--zone "${opt[zone]}")
  [ -z "${opt[project]}" ] || where+=(--project "${opt[project]}")
  [ -n "${opt[version]}" ] || find_version
  only_delete=no
  if [ "${opt[delete]}" = yes ] && [ ${#train[@]} -eq 0 ]; then only_delete=yes; fi
  [ "$only_delete" = yes ] || needs_training gs://BUCKET/runs/one
  if ! is_dry; then
    command -v gcloud >/dev/null || refuse "gcloud is not installed: see https://cloud.google.com/sdk"
  fi
}

find_version() {
  case "${opt[type]}" in
    v5litepod-*) opt[version]=v2-alpha-tpuv5-lite ;;
    v5p-*) opt[version]=v2-alpha-tpuv5 ;;
    v6e-*) opt[version]=v2-alpha-tpuv6e ;;
    v[234]-*) opt[version]=tpu-ubuntu2204-base ;;
    *)
      refuse "--type is '${opt[type]}'; it takes v2-N, v3-N, v4-N, v5litepod-N, v5p-N or v6e-N, for" \
        "example --type v5litepod-8; another one needs --version, its runtime version, too."
      ;;
  esac
}

tpus() { run gcloud compute tpus "$@" "${where[@]}"; }

# on WORKERS COMMAND: by ssh, from the home folder there.
on() { tpus tpu-vm ssh "${opt[name]}" --worker="$1" --command "$2"; }

pause() { is_dry || sleep "${opt[poll_seconds]}"; }

# state_of KIND FORMAT: sets `state` to that of the resource, ABSENT when there is none.
state_of() {
  local error
  error="$(mktemp)"
  if state="$(tpus "$1" describe "${opt[name]}" --format="$2" 2>"$error")"; then
    rm -f "$error"
    return
  fi
  if ! grep -qiE 'not.found' "$error"; then
    cat "$error" >&2
    rm -f "$error"
    say "gcloud cannot tell whether ${opt[name]} exists; the lines above say why"
    exit 1
  fi
  rm -f "$error"
  # shellcheck disable=SC2034 # the scripts look at it
  state=ABSENT
}

# Does it again while a new machine's ssh is not yet ready.
again() {
  local i
  for ((i = 1; i <= 5; i++)); do
    if "$@"; then return 0; fi
    [ "$i" -eq 5 ] || pause
  done
  return 1
}

# The checkout, installed on all workers, and the training started. One that runs is left alone.
# Fails where the machine does not answer; anything else that goes wrong there ends this script.
start_training() {
  local archive=/tmp/jaxreid.tgz
  is_dry || archive="$(mktemp -d)/jaxreid.tgz"
  run tar -czf "$archive" --exclude=__pycache__ --exclude='*.egg-info' -C "$ROOT" "${COPIED[@]}" ||
    exit 1
  again tpus tpu-vm scp "$archive" "${opt[name]}:jaxreid.tgz" --worker=all || return 1
  is_dry || rm -r "$(dirname "$archive")"
  if ! on all "$INSTALL" ||
    ! on all "$ON_VM start --restarts ${opt[restarts]} -- $(quoted "${train[@]}")"; then
    on all true || return 1
    say "jaxreid could not be started on ${opt[name]}; the lines above say why"
    leave 1
  fi
}

# Streams the log of worker 0 until all workers have ended. Sets `verdict`, a kind of code, gone or
# unreachable, and `code`.
follow_training() {
  local states
  while :; do
    on 0 "$ON_VM follow" || true
    if ! states="$(on all "$ON_VM state" 2>/dev/null)"; then
      verdict=unreachable
      return
    fi
    if is_dry; then
      echo "$states"
      verdict=finished
      return
    fi
    states="$(grep -oE 'jaxreid-worker [0-9]+ of [0-9]+: .*' <<<"$states" || true)"
    # Not all of them have answered.
    if ! grep -q " of $(grep -c . <<<"$states"):" <<<"$states"; then
      verdict=unreachable
      return
    fi
    grep -q ': running$' <<<"$states" || break
    pause
  done
  judge "$states"
}

# From a line a worker to a verdict: what was explained counts more than that some were stopped, which
# counts more than a crash or an end without a code; who has lost another only says so.
judge() {
  local line this kind rank
  verdict=finished code=0
  while IFS= read -r line; do
    this="${line##* }"
    kind="$(kind_of "$this")"
    # Killed together with what should have kept its code, or the machine has started anew.
    case "$this" in gone | none) kind=gone this=137 ;; esac
    [ "$kind" = finished ] || say "${line#jaxreid-}"
    for rank in explained interrupted stopped crashed gone lost; do
      [ "$verdict" != "$rank" ] || break
      [ "$kind" = "$rank" ] || continue
      verdict="$kind" code="$this"
      break
    done
  done <<<"$1"
}

# The end of the training, by code; what costs money is deleted, or named.
leave() {
  trap - INT
  if [ "${opt[delete]}" = yes ]; then
    delete
  elif ! is_dry; then
    say "${opt[name]} is still there and costs money: bash launch/$(basename "$0")" \
      "--name ${opt[name]} $(quoted "${where[@]}") --delete ends that."
  fi
  exit "$1"
}

crashes=0
# may_restart WHAT_HAPPENED: counts the crashes of all hosts together, up to --restarts.
may_restart() {
  crashes=$((crashes + 1))
  [ "$crashes" -le "${opt[restarts]}" ] || return 1
  say "$1; restart $crashes of ${opt[restarts]} of all hosts"
}

# Makes the resource ready, trains on it, and does both again where that helps. `make_ready`,
# `delete` and `can_restart`, whether after a crash with a code, are the script's.
train_there() {
  local unreachable=0 what restart
  trap 'say "The training goes on there; the same command follows it again."; exit 130' INT
  while :; do
    make_ready
    verdict=unreachable
    if start_training; then follow_training; fi
    [ "$verdict" = unreachable ] || unreachable=0
    case "$verdict" in
      finished) leave 0 ;;
      explained)
        say_explained "$code"
        leave "$code"
        ;;
      interrupted)
        say_interrupted
        leave "$code"
        ;;
      stopped) say "it was stopped, and goes on from what it has saved" ;;
      crashed | lost | gone)
        what="it crashed with $(name_of "$code")"
        restart=can_restart
        if [ "$verdict" = gone ]; then
          what="it was killed without leaving a code"
          restart=may_restart
        fi
        "$restart" "$what" || {
          say "$what, and --restarts ${opt[restarts]} are used up"
          leave "$code"
        }
        ;;
      unreachable)
        unreachable=$((unreachable + 1))
        if [ "$unreachable" -ge "$tries" ]; then
          say "${opt[name]} did not answer $tries times; the training may still run there"
          exit 1
        fi
        say "${opt[name]} does not answer"
        ;;
    esac
    pause
  done
}
