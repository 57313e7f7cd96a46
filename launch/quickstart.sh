#!/usr/bin/env bash
# Draws a data set of pedestrians, trains SSAN on it, evaluates it on people it has never seen and
# writes a report. No download of data, no licence; everything ends up in runs/quickstart/.
#
#   bash launch/quickstart.sh          hardware: two CPU cores and 4 GB, or a GPU, or a TPU
#
# Time: see the README. The same command again goes on where it stopped, or says that it is done.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

run="$ROOT/runs/quickstart"
mkdir -p "$run"
# shellcheck disable=SC2046 # no word at all where there is no accelerator
set_up $(accelerator_extra)
export JAX_COMPILATION_CACHE_DIR="$run/cache/xla"

jaxreid train --config "$ROOT/configs/ssan.py:quickstart" --workdir "$run" \
  "--config.data.data_dir=$run/data" "--config.data.cache_dir=$run/cache"
jaxreid evaluate --workdir "$run"
jaxreid report --workdir "$run"

cat <<TEXT

What there is now:
  $run/report.html       curves, scores, ranked lists, word-by-part maps: open it in a browser
  $run/eval/test.json    the scores
  $run/checkpoints       the weights
  $run/data              the drawn data set
TEXT
