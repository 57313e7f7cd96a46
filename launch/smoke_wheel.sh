#!/usr/bin/env bash
# Builds the wheel, installs it into a clean environment and runs it there, far from the checkout:
# shows that nothing needs the checkout, and that no file is missing from the wheel.
#
#   bash launch/smoke_wheel.sh [--dry_run]    --dry_run prints the commands
#
# Hardware: two CPU cores. Time: a few minutes. Cost: this machine's.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

parse "$@"
set_up test
if is_dry; then
  scratch=SCRATCH
  run python -m build --wheel --outdir "$scratch/dist" "$ROOT"
else
  scratch="$(mktemp -d)"
  trap 'rm -rf "$scratch"' EXIT
  python -m build --wheel --outdir "$scratch/dist" "$ROOT" >"$scratch/build.log" 2>&1 ||
    { cat "$scratch/build.log" >&2; exit 1; }
fi
run python -m venv "$scratch/venv"
run "$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$ROOT/launch/constraints.txt" "$scratch"/dist/*.whl
run cp "$ROOT/configs/ssan.py" "$scratch/ssan.py"
run cd "$scratch"
export PATH="$scratch/venv/bin:$PATH" JAX_PLATFORMS=cpu
run python -m tfds_builders.build synth_pedes/tiny --data_dir "$scratch/data"
run jaxreid train --config ssan.py:quickstart,runlocal --workdir "$scratch/run" \
  --config.data.name=synth_pedes/tiny "--config.data.data_dir=$scratch/data" \
  "--config.data.cache_dir=$scratch/cache"
run jaxreid evaluate --workdir "$scratch/run"
run jaxreid report --workdir "$scratch/run"
run test -s "$scratch/run/report.html"
is_dry || echo "The wheel works on its own."
