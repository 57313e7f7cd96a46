#!/usr/bin/env bash
# Trains on this machine; starts again what was stopped or has crashed.
#
#   bash launch/local.sh [--restarts N] [--processes N] [--port P] [--dry_run] -- \
#     --config configs/ssan.py:cuhk_pedes --workdir runs/one
#
# Hardware: two CPU cores, one or more NVIDIA GPUs, or a TPU. All devices of the machine are used; one
# process is enough for that. Time: see the README; on GPUs not measured. Cost: this machine's hours.
#
#   --restarts N       after a crash (0 by default). What was stopped with everything saved, code 75,
#                      is always started again; an error that was explained, code 1 or 2, never is,
#                      nor what Ctrl-C stopped, code 130
#   --processes N      N processes that find each other at 127.0.0.1, each with its share of the GPUs
#                      (on CPUs all see the same cores): a rehearsal of several hosts
#   --port P           where process 0 listens; a free one by default
#   --pause S          seconds before a new start, 5 by default
#   --grace S          seconds that the others have after one has died, 40 by default
#
# SIGTERM and Ctrl-C are passed on: the run saves and ends, and the same command goes on with it.
# JAXREID=/path/to/program runs that instead of installing jaxreid into .venv.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

opt+=([restarts]=0 [processes]=1 [port]="" [pause]=5 [grace]=40)
trains=yes
parse "$@"
whole restarts 0
whole processes 1
whole pause 0
whole grace 0
needs_training runs/one
processes="${opt[processes]}"
port="${opt[port]}"
# shellcheck disable=SC2046 # no word at all where there is no accelerator
set_up_program $(accelerator_extra)

find_port() {
  for _ in 1 2 3 4 5 6 7 8; do
    port=$((20000 + RANDOM % 12000))
    # Nobody answers there.
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return; fi
  done
}

# Sets `gpus` to those of process I, separated by commas; nothing where there are none.
find_gpus() {
  local all each
  gpus=""
  [ "$(accelerator_extra)" = cuda ] || return 0
  all="${CUDA_VISIBLE_DEVICES:-$(nvidia-smi -L | sed 's/^GPU \([0-9]*\).*/\1/' | paste -sd, -)}"
  IFS=, read -ra all <<<"$all"
  each=$((${#all[@]} / processes))
  ((each * processes == ${#all[@]} && each > 0)) ||
    refuse "--processes is $processes; the ${#all[@]} GPUs cannot be shared out evenly among them."
  gpus="$(IFS=,; echo "${all[*]:$1 * each:each}")"
}

start_all() {
  local i words gpus
  [ -n "${opt[port]}" ] || [ "$processes" -eq 1 ] || find_port
  pids=()
  for ((i = 0; i < processes; i++)); do
    words=("$program" train "${train[@]}")
    if [ "$processes" -gt 1 ]; then
      words+=(--coordinator "127.0.0.1:$port" --num_processes "$processes" --process_id "$i")
      find_gpus "$i"
      [ -z "$gpus" ] || words=(env "CUDA_VISIBLE_DEVICES=$gpus" "${words[@]}")
    fi
    if is_dry; then
      run "${words[@]}"
    else
      "${words[@]}" </dev/null &
      pids+=($!)
    fi
  done
}

signal_all() {
  local pid
  for pid in "${pids[@]}"; do kill "-$1" "$pid" 2>/dev/null || true; done
}

# Seconds for which a process that another has lost may still say why it ended.
LAST_WORDS=5

# Waits for all; sets `code` to that of the first which ended with another than 0. Who has lost another
# only says so: what the other one says counts. So does that it was Ctrl-C by which all were stopped.
wait_for_all() {
  local i this left ending="" deadline=""
  code=0
  left=("${!pids[@]}")
  while [ ${#left[@]} -gt 0 ]; do
    sleep 0.2 || true # a signal to the whole group ends it too
    for i in "${left[@]}"; do
      kill -0 "${pids[i]}" 2>/dev/null && continue
      this=0
      wait "${pids[i]}" || this=$?
      unset "left[$i]" "pids[$i]"
      [ "$processes" -eq 1 ] || say "process $i of $processes ended with $(name_of "$this")"
      case "$(kind_of "$code")" in
        finished) code="$this" ;;
        lost) [ "$this" -eq 0 ] || code="$this" ;;
        stopped) [ "$(kind_of "$this")" != interrupted ] || code="$this" ;;
      esac
      # Those that were stopped together are still saving: leave them to it.
      case "$(kind_of "$this")" in finished | stopped | interrupted) continue ;; esac
      if [ -z "$ending$deadline" ] && [ ${#left[@]} -gt 0 ]; then
        say "ending the others: they cannot go on without process $i"
        ending="$SECONDS"
        # It has lost one of them, which is about to say why.
        [ "$(kind_of "$this")" != lost ] || ending=$((SECONDS + LAST_WORDS))
      fi
    done
    if [ -n "$ending" ] && [ "$SECONDS" -ge "$ending" ]; then
      ending=""
      deadline=$((SECONDS + opt[grace]))
      signal_all TERM
    fi
    if [ -n "$deadline" ] && [ "$SECONDS" -gt "$deadline" ]; then signal_all KILL; fi
  done
}

pids=()
stopping=no
set -m # a group for each process: what the terminal sends to this one reaches them once, from here
trap 'stopping=yes; signal_all TERM' TERM INT HUP
crashes=0
while :; do
  start_all
  if is_dry; then exit 0; fi
  wait_for_all
  if [ "$stopping" = yes ]; then
    say "told to stop; ended with $(name_of "$code"). The same command goes on."
    exit "$code"
  fi
  case "$(kind_of "$code")" in
    finished) exit 0 ;;
    explained)
      say_explained "$code"
      exit "$code"
      ;;
    interrupted)
      say_interrupted
      exit "$code"
      ;;
    stopped) say "code 75: stopped, and everything is saved; starting again" ;;
    crashed | lost)
      crashes=$((crashes + 1))
      if [ "$crashes" -gt "${opt[restarts]}" ]; then
        say "crashed with $(name_of "$code"); --restarts ${opt[restarts]} allows no further start." \
          "The same command goes on from the last checkpoint."
        exit "$code"
      fi
      say "crashed with $(name_of "$code"); restart $crashes of ${opt[restarts]}"
      ;;
  esac
  sleep "${opt[pause]}" || true
  [ "$stopping" = no ] || exit "$code"
done
