#!/usr/bin/env bash
# Trains on a slice of a TPU pod, all its hosts, by a queued resource: waits for it, trains, and asks
# for another when it is taken away, until the training has ended.
#
#   bash launch/tpu_pod.sh --zone us-west4-a --type v5litepod-32 [--spot] [--delete] [--dry_run] -- \
#     --config configs/ssan.py:cuhk_pedes --workdir gs://BUCKET/runs/one \
#     --config.batch_per_device=64
#
# Hardware: a slice of any size; v5litepod-16 by default. Time: not measured; how long a slice is waited
# for is the zone's affair. Cost: by chip and hour while the slice is ACTIVE, trained on or not; storage at
# gs://, and traffic where the bucket lies in another region. Nothing but --delete ends the cost.
#
#   --spot             cheaper, and may be taken away at any time
#   --delete           deletes slice and request when the training has ended; without training
#                      arguments, now
#   --restarts N       of all hosts together after a crash of one, 3 by default; what was stopped or
#                      taken away is always started again
#   --project P, --name N, --version V, --poll_seconds S   as in tpu_vm.sh
#
# The workdir must be one for all hosts: gs:// or a shared disk. JAX lets the hosts find each other
# by what the metadata server tells them. This script must keep running to ask for a new slice: start it where
# nothing closes, in tmux on a small VM or in Cloud Shell; started again it follows what is there.
. "$(dirname "${BASH_SOURCE[0]}")/tpu.sh"

opt[type]=v5litepod-16
parse_tpu "$@"
[[ " ${train[*]}" =~ --workdir[=\ ]gs:// ]] || [ "$only_delete" = yes ] || is_dry ||
  say "the workdir is no gs:// path: it must lie on a disk that all hosts share"

make_ready() {
  local before="" spot=()
  [ "${opt[spot]}" = no ] || spot=(--spot)
  while :; do
    if is_dry; then
      tpus queued-resources describe "${opt[name]}" --format='value(state.state)'
      state=ABSENT
    else
      state_of queued-resources 'value(state.state)'
    fi
    [ "$state" = "$before" ] || say "${opt[name]}: $state"
    before="$state"
    case "$state" in
      ACTIVE) return ;;
      ABSENT)
        tpus queued-resources create "${opt[name]}" --node-id "${opt[name]}" \
          --accelerator-type "${opt[type]}" --runtime-version "${opt[version]}" "${spot[@]}"
        if is_dry; then return; fi
        ;;
      SUSPENDED) delete ;;
      FAILED)
        say "the request failed: gcloud compute tpus queued-resources describe ${opt[name]}" \
          "$(quoted "${where[@]}") says why. Delete it with --delete before another try."
        exit 1
        ;;
      *) pause ;; # CREATING, ACCEPTED, WAITING_FOR_RESOURCES, PROVISIONING, SUSPENDING, DELETING
    esac
  done
}

delete() { tpus queued-resources delete "${opt[name]}" --force --quiet; }

can_restart() { may_restart "$@"; }

if [ "$only_delete" = yes ]; then
  delete
  exit
fi
train_there
