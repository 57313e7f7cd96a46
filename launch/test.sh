#!/usr/bin/env bash
# Lint, types and tests, in an environment of the project's own.
#
#   bash launch/test.sh          all tests that are not slow
#   bash launch/test.sh --all    the slow ones too, those against PyTorch (which it installs), and
#                                the built wheel in a clean environment
#
# Hardware: two CPU cores and 8 GB. Time: under 12 minutes, with --all under 60.
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

case "${1:-}" in
  "") extras=(test) selection=(-m "not slow") ;;
  --all) extras=(test reference) selection=() ;;
  *)
    echo "$0 takes --all or nothing, not '$1'" >&2
    exit 2
    ;;
esac

cd "$ROOT"
set_up "${extras[@]}"
ruff check .
ruff format --check .
mypy
pytest --numprocesses 2 --dist loadfile "${selection[@]}"
if [ "${1:-}" = --all ]; then
  bash launch/smoke_wheel.sh
fi
