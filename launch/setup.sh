# Sourced by the scripts beside it: makes .venv in the project's root and installs jaxreid into it.
#
#   . launch/setup.sh        then        set_up [EXTRA ...]
#
# Needs Python 3.11 or newer with pip and venv. Set PYTHON to choose an interpreter. Running it again
# costs a second: it installs only when the project's requirements have changed.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

# venv alone does not tell: Debian without python3-venv has it, but not the ensurepip it needs.
is_usable() {
  "$1" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    if is_usable "$PYTHON"; then
      command -v "$PYTHON"
      return
    fi
    echo "PYTHON=$PYTHON cannot be used: it must be Python 3.11 or newer with the modules venv and" >&2
    echo "ensurepip. Name another one, or unset PYTHON to have one looked for." >&2
    return 1
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if is_usable "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  echo "No Python 3.11 or newer with the modules venv and ensurepip was found. Install one (on Debian" >&2
  echo "and Ubuntu: apt install python3 python3-venv), or name it: PYTHON=/path/to/python bash $0" >&2
  return 1
}

# The extra of the accelerator in this machine, if any: cuda, tpu or nothing.
accelerator_extra() {
  if [[ "$(nvidia-smi -L 2>/dev/null || true)" == *GPU* ]]; then
    echo cuda
  elif compgen -G '/dev/accel[0-9]*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
    echo tpu
  fi
}

set_up() {
  local extras wanted python
  extras="$(IFS=,; echo "$*")"
  wanted="$(cat "$ROOT/pyproject.toml" "$ROOT/launch/constraints.txt" | cksum) $ROOT $extras"
  if [ "$(cat "$ROOT/.venv/installed" 2>/dev/null)" != "$wanted" ]; then
    python=python3
    is_dry || python="$(find_python)"
    is_dry ||
      echo "Installing jaxreid${extras:+[$extras]} into $ROOT/.venv ($("$python" --version))"
    run "$python" -m venv "$ROOT/.venv"
    run "$ROOT/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --constraint "$ROOT/launch/constraints.txt" --editable "$ROOT${extras:+[$extras]}"
    is_dry || echo "$wanted" >"$ROOT/.venv/installed"
  fi
  export PATH="$ROOT/.venv/bin:$PATH"
  # On a CPU each step takes its working memory anew; large pages make that cheaper.
  export GLIBC_TUNABLES="${GLIBC_TUNABLES:-glibc.malloc.hugetlb=1}"
}

# What the launchers run, as `program`: JAXREID, a wrapper or a jaxreid that is installed elsewhere, or
# else jaxreid, set up with these extras.
set_up_program() {
  # shellcheck disable=SC2034 # the launchers run it
  program="${JAXREID:-jaxreid}"
  if [ -z "${JAXREID:-}" ]; then set_up "$@"; fi
}
