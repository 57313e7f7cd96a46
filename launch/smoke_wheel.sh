#!/usr/bin/env bash
# Builds the wheel, installs it into a clean environment and runs it there, far from the checkout:
# shows that nothing needs the checkout, and that no file is missing from the wheel.
#
#   bash launch/smoke_wheel.sh        two CPU cores, a few minutes
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

set_up test
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
python -m build --wheel --outdir "$scratch/dist" "$ROOT" >"$scratch/build.log" 2>&1 ||
  { cat "$scratch/build.log" >&2; exit 1; }
python -m venv "$scratch/venv"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint "$ROOT/launch/constraints.txt" "$scratch"/dist/*.whl
cp "$ROOT/configs/ssan.py" "$scratch/ssan.py"
cd "$scratch"
export PATH="$scratch/venv/bin:$PATH" JAX_PLATFORMS=cpu
python -m tfds_builders.build synth_pedes/tiny --data_dir "$scratch/data"
jaxreid train --config ssan.py:quickstart,runlocal --workdir "$scratch/run" \
  --config.data.name=synth_pedes/tiny "--config.data.data_dir=$scratch/data" \
  "--config.data.cache_dir=$scratch/cache"
jaxreid evaluate --workdir "$scratch/run"
jaxreid report --workdir "$scratch/run"
test -s "$scratch/run/report.html"
echo "The wheel works on its own."
