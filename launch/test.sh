#!/usr/bin/env bash
# Lint, types and tests, in an environment of the project's own.
#
#   bash launch/test.sh              all tests that are not slow
#   bash launch/test.sh --all        the slow ones too, those against PyTorch (which it installs), and
#                                    the built wheel in a clean environment
#   bash launch/test.sh --dry_run    prints the commands
#
# Hardware: two CPU cores and 8 GB. Time: under 12 minutes, with --all under 60. Cost: this machine's.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

opt+=([all]=no)
parse "$@"
extras=(test)
selection=(-m "not slow")
if [ "${opt[all]}" = yes ]; then
  extras+=(reference)
  selection=()
fi

cd "$ROOT"
set_up "${extras[@]}"
run ruff check .
run ruff format --check .
run mypy
run pytest --numprocesses 2 --dist loadfile "${selection[@]}"
if [ "${opt[all]}" = yes ]; then
  run bash launch/smoke_wheel.sh
fi
