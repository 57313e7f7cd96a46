#!/usr/bin/env bash
# Draws a data set of pedestrians, trains SSAN on it, evaluates it on people it has never seen and
# writes a report. No download of data, no licence; everything ends up in runs/quickstart/.
#
#   bash launch/quickstart.sh [--dry_run]    --dry_run prints the commands
#
# Hardware: two CPU cores and 4 GB, or a GPU, or a TPU. Time: see the README. Cost: this machine's.
# The same command again goes on where it stopped, or says that it is done.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

parse "$@"
folder="$ROOT/runs/quickstart"
run mkdir -p "$folder"
# shellcheck disable=SC2046 # no word at all where there is no accelerator
set_up $(accelerator_extra)
export JAX_COMPILATION_CACHE_DIR="$folder/cache/xla"

run jaxreid train --config "$ROOT/configs/ssan.py:quickstart" --workdir "$folder" \
  "--config.data.data_dir=$folder/data" "--config.data.cache_dir=$folder/cache"
run jaxreid evaluate --workdir "$folder"
run jaxreid report --workdir "$folder"

if is_dry; then exit; fi
cat <<TEXT

What there is now:
  $folder/report.html       curves, scores, ranked lists, word-by-part maps: open it in a browser
  $folder/eval/test.json    the scores
  $folder/checkpoints       the weights
  $folder/data              the drawn data set
TEXT
