#!/usr/bin/env bash
# Trains on a Cloud TPU VM: creates it or takes the one that is there, copies the checkout, installs
# jaxreid[tpu,gcs], runs, and streams the log.
#
#   bash launch/tpu_vm.sh --zone us-west4-a [--type v5litepod-8] [--name N] [--delete] [--dry_run] -- \
#     --config configs/ssan.py:cuhk_pedes --workdir gs://BUCKET/runs/one
#
# Hardware: one host of 1 to 8 TPU chips; v5litepod-8, eight chips of 16 GB, by default. Time: not
# measured. Cost: by chip and hour from creation to deletion, trained on or not; storage at gs://, and
# traffic where the bucket lies in another region. Nothing but --delete ends the cost.
#
#   --delete           deletes the VM when the training has ended; without training arguments, now
#   --spot             cheaper, and may be taken away: it is then created again and the training goes on
#   --restarts N       after crashes, 3 by default, on the VM itself
#   --project P        gcloud's by default
#   --version V        runtime version; the one that goes with the type by default
#   --poll_seconds S   between looks at the VM, 30 by default
#
# The training does not need the connection: Ctrl-C or a lost line leaves it running, and the same
# command follows it again. Needs gcloud, logged in; the VM's service account reads and writes gs://.
. "$(dirname "${BASH_SOURCE[0]}")/tpu.sh"

opt[type]=v5litepod-8
parse_tpu "$@"

make_ready() {
  local spot=()
  [ "${opt[spot]}" = no ] || spot=(--spot)
  while :; do
    if is_dry; then
      tpus tpu-vm describe "${opt[name]}" --format='value(state)'
      state=ABSENT
    else
      state_of tpu-vm 'value(state)'
    fi
    case "$state" in
      READY) return ;;
      ABSENT)
        say "creating ${opt[name]}, ${opt[type]}"
        tpus tpu-vm create "${opt[name]}" --accelerator-type "${opt[type]}" \
          --version "${opt[version]}" "${spot[@]}"
        if is_dry; then return; fi
        ;;
      PREEMPTED | TERMINATED)
        say "${opt[name]} was taken away ($state)"
        delete
        ;;
      STOPPED) tpus tpu-vm start "${opt[name]}" ;;
      *)
        say "${opt[name]} is $state"
        pause
        ;;
    esac
  done
}

delete() { tpus tpu-vm delete "${opt[name]}" --quiet; }

# The VM has started it again as often as --restarts allows.
can_restart() { false; }

if [ "$only_delete" = yes ]; then
  delete
  exit
fi
train_there
